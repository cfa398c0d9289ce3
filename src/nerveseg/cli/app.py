"""``nerveseg app``: the page, on this machine unless it is told otherwise."""

from __future__ import annotations

from typing import Annotated

import typer

from nerveseg.cli._console import guarded, note, still, waiting
from nerveseg.cli.segment import Device, Dtype, LowMemory, Offline, RecipeName, Settings

__all__ = ["app"]


@guarded
def app(
    *,
    recipe: RecipeName = "nerve",
    settings: Settings = None,
    host: Annotated[str, typer.Option(help="Address to listen on. Another than loopback needs --open.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    open_door: Annotated[bool, typer.Option("--open", help="Let anybody in who reaches the host.")] = False,
    public: Annotated[
        list[str] | None, typer.Option("--public-host", metavar="NAME", help="Name under which a proxy shows the page; may be given again.")
    ] = None,
    memory: Annotated[int, typer.Option(min=1, metavar="MIB", help="For what is kept of all visitors' images.")] = 2048,
    minutes: Annotated[float, typer.Option(min=1, help="How long a visitor's image is kept after its last use.")] = 60,
    browser: Annotated[bool, typer.Option("--browser", help="Open the page in this machine's browser.")] = False,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    low_memory: LowMemory = False,
) -> None:
    """Open a page in the browser: drop an image, type words, see masks, correct them by clicks, download them.

    Try it: nerveseg app --recipe mini
    """
    import webbrowser

    from nerveseg import recipe as recipes
    from nerveseg.cli._words import read_settings
    from nerveseg.ui import need_extra

    need_extra()
    from nerveseg.server.listening import listen
    from nerveseg.ui.run import check_door, serve

    check_door(host, open_door=open_door)
    knobs = read_settings(settings or ())
    chosen = recipes.load(recipe, knobs)
    with listen(host, port) as door:  # a port that is taken is told before the networks are loaded
        number = door.getsockname()[1]

    def ready(address: str) -> None:
        note(f"{address}, recipe {chosen.name!r}; Ctrl-C ends it", style="green", lead="serving")
        if browser:
            webbrowser.open(address)

    with waiting(f"loading the networks of {chosen.name!r}"):
        from nerveseg.segmenter import Segmenter
        from nerveseg.ui.state import Desks
        from nerveseg.ui.work import Work

        still()
        segmenter = Segmenter.from_pretrained(recipe, device=device, dtype=dtype, offline=offline, low_memory=low_memory, settings=knobs)
    work = Work(segmenter, Desks(memory << 20, 60 * minutes))
    serve(work, host, number, str(segmenter.device), public=frozenset(name.lower() for name in public or ()), ready=ready)
