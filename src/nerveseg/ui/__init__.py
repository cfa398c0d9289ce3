"""The page: drop an image, type words, see and correct masks, in a browser. One visit goes one way through these files.

    run → page (what is on it, what calls what) → work (what it does) → state (a desk a visitor) → view (a result → what the browser draws)

`door` stands in front of it and says what may come in. `work`, `state`, `knobs` and `view` know nothing of Gradio. ``viewer.html``,
``viewer.js`` and ``page.css`` are what the browser gets; every label reaches it as data and is shown as text. The extra ``app`` brings what
the page needs; nothing outside this package imports it.
"""

from __future__ import annotations

from importlib.util import find_spec

from nerveseg.errors import MissingExtra

__all__ = ["need_extra"]


def need_extra() -> None:
    """Refuse where Gradio is not installed; nothing is imported.

    Raises:
        MissingExtra: with the command that installs it.
    """
    if find_spec("gradio") is None:
        raise MissingExtra(
            "Got no gradio, which the page needs. Accepted is an environment with the extra 'app'. "
            "Install it with: pip install 'nerveseg[app]'."
        )
