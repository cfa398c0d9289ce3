"""The layout of the page and its event handlers. Whatever comes from an image or a visitor is sent as data, never as markup."""

from __future__ import annotations

import html
import itertools
import logging
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio import themes
from gradio.utils import get_upload_folder
from PIL import Image

from nerveseg import registry
from nerveseg.clicks import Click
from nerveseg.errors import ImageError, NerveSegError, OptionError
from nerveseg.synthetic import bundled
from nerveseg.ui import view
from nerveseg.ui.knobs import Knobs
from nerveseg.ui.request_limits import MOST_BYTES
from nerveseg.ui.state import Desk
from nerveseg.ui.work import Work

__all__ = ["STAGES", "build", "looks"]

STAGES: Mapping[str, tuple[float, str]] = {
    "read": (0.02, "Reading the image"),
    "label network": (0.06, "Looking for words: the label network"),
    "graph network": (0.25, "Looking for edges: the diffusion network"),
    "words": (0.70, "Reading the words"),
    "labels": (0.74, "Words against the image"),
    "transition": (0.78, "Building the graph"),
    "walk": (0.86, "Walking"),
    "decide": (0.96, "Deciding every pixel"),
}
"""Stage → how far the work is when it begins, and what a visitor reads."""

_ASK = "Type what is in the image, and press Enter."
_POINT = "Point at the image for label and confidence; choose a label below to correct by a click."
_CACHED = ", without a network pass"
_NOTHING: tuple[Any, ...] = (gr.skip(), gr.skip())
_FIELDS = 7  # words, background, other words, α, β, to the end, steps
_BACKGROUND, _OTHERS, _ENDLESS, _STEPS = 1, 2, 5, 6
_LONGEST_VISIT = 64  # letters of a visit's name
_LARGEST = 1e9  # of any number that the page sends
_READING = 6  # visitors whose images are read at one time
_PROGRESS = gr.Progress()
_LOG = logging.getLogger("nerveseg.ui")
_BACKGROUNDS = [("Every pixel gets a label", "none"), ("The rest is background", "auto"), ("These words are background", "words")]
_NOTICE_JS = """
const box = element.querySelector('.nv-notice');
watch('value', () => {
  const value = props.value || {};
  box.dataset.kind = value.kind || '';
  box.replaceChildren();
  for (const line of value.lines || []) box.appendChild(document.createElement('p')).textContent = line;
  box.hidden = !(value.lines || []).length;
  if (value.kind === 'error') requestAnimationFrame(() => box.scrollIntoView({ block: 'nearest' }));
});
"""
_SAVE_JS = """(file) => {
  if (!file || !file.url) return;
  const link = document.createElement('a');
  link.href = file.url;
  link.download = file.orig_name || 'labels';
  document.body.append(link);
  link.click();
  link.remove();
}"""


def looks() -> dict[str, Any]:
    """Theme and style, for ``Blocks.launch``. Fonts come from Gradio's own files."""
    theme = themes.Base(
        primary_hue=themes.colors.teal,
        neutral_hue=themes.colors.slate,
        radius_size=themes.sizes.radius_lg,
        font=[themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        body_background_fill="white",
        body_background_fill_dark="*neutral_950",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        color_accent="*primary_700",
        color_accent_soft="*primary_50",
        slider_color="*primary_700",
        slider_color_dark="*primary_500",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        checkbox_label_background_fill="white",
        checkbox_label_background_fill_dark="*neutral_900",
        checkbox_label_border_width="1px",
        checkbox_label_border_color="*neutral_200",
        checkbox_label_border_color_dark="*neutral_700",
        input_border_width="1px",
        input_border_color="*neutral_200",
        input_border_color_dark="*neutral_700",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="*neutral_900",
        button_border_width="1px",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_primary_border_color="*primary_700",
        block_label_text_size="*text_sm",
        block_title_text_weight="600",
        block_title_text_color="*body_text_color",
        block_info_text_color="*body_text_color_subdued",
    )
    return {"theme": theme, "css": _text("page.css")}


def build(work: Work, place: str = "") -> gr.Blocks:
    """Lay out the page.

    Args:
        work: what it calls.
        place: where the work is done, for the visitor, as ``cpu``.
    """
    recipe = work.segmenter.recipe
    own = Knobs.of(recipe)
    with gr.Blocks(title="nerveseg", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(_head(recipe.name, place), elem_id="head", js_on_load=None)
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=5, elem_id="left"):
                viewer = gr.HTML(
                    {"examples": _examples(), "most": f"{MOST_BYTES >> 20} MiB"},
                    html_template=_text("viewer.html"),
                    js_on_load=_text("viewer.js"),
                    apply_default_css=False,
                    elem_id="stage",
                )
            with gr.Column(scale=3, min_width=300, elem_id="right"):
                words = gr.Textbox(
                    label="What is in the image?",
                    info="Words parted by commas. A semicolon joins words for one thing.",
                    placeholder="cat; kitten, hat, sand, water",
                    max_lines=6,  # Enter is the button all the same
                    elem_id="words",
                )
                background = gr.Radio(_BACKGROUNDS, value="none", label="And the rest?", elem_id="background")
                others = gr.Textbox(
                    label="Words for the background", placeholder="sky, wall, floor", max_lines=6, visible=False, elem_id="others"
                )
                go = gr.Button("Label every pixel", variant="primary", elem_id="go")
                notice = gr.HTML(
                    None,
                    html_template='<div class="nv-notice" role="alert" hidden></div>',
                    js_on_load=_NOTICE_JS,
                    apply_default_css=False,
                    elem_id="notice",
                )
                with gr.Column(elem_classes="nv-split", visible=own.alpha is not None, elem_id="knobs"):
                    alpha = gr.Slider(
                        0.0, own.highest_alpha, value=own.alpha or 0.0, step=0.005, label="α – how far a walk goes",
                        info="More: smoother.", visible=own.alpha is not None, elem_id="alpha",
                    )  # fmt: skip
                    beta = gr.Slider(
                        0.0, 1.0, value=own.beta or 0.0, step=0.05, label="β – share of the far jumps",
                        info="More: what looks alike shares its label.", visible=own.beta is not None, elem_id="beta",
                    )  # fmt: skip
                    endless = gr.Checkbox(
                        own.endless, label="Walk to the end", visible=own.steps is not None, elem_id="endless", container=False
                    )
                    steps = gr.Slider(
                        0, own.most_steps, value=own.steps or 0, step=1, label="Steps", info="When not to the end. 0: no walk at all.",
                        visible=own.steps is not None, interactive=not own.endless, elem_id="steps",
                    )  # fmt: skip
                with gr.Column(elem_classes="nv-split", elem_id="save-row"):
                    kind = gr.Dropdown(_formats(), value="png", label="Download as", filterable=False, elem_id="format")
                    save = gr.Button("Download", elem_id="save")
                made = gr.File(visible="hidden", interactive=False)

        fields = [words, background, others, alpha, beta, endless, steps]
        calls = _Calls(work)
        once = {"concurrency_id": "networks", "concurrency_limit": 1, "api_visibility": "private"}
        # What fields say is looked at by `_Calls`, in its own words: Gradio's look shows words of its own, and logs a traceback.
        shown = {"outputs": [viewer, notice], "show_progress_on": viewer, "preprocess": False, **once}
        still = {"outputs": [viewer, notice], "show_progress": "hidden", "preprocess": False, **once}
        reading = {**shown, "concurrency_id": "images", "concurrency_limit": _READING}  # the networks take turns by themselves
        viewer.image(calls.image, fields, **reading)
        viewer.example(calls.example, [background, others, alpha, beta, endless, steps], **{**shown, "outputs": [words, viewer, notice]})
        for event in (words.submit, others.submit, go.click):
            # Gradio may lose an answer that comes while its stream closes; with its default mode the button would then be dead.
            event(calls.label, fields, trigger_mode="multiple", **shown)
        for slider in (alpha, beta, steps):
            slider.input(calls.tune, fields, trigger_mode="always_last", **still)
        endless.input(lambda on: gr.update(interactive=not on), endless, steps, show_progress="hidden", api_visibility="private")
        endless.input(calls.tune, fields, trigger_mode="always_last", **still)
        background.input(
            lambda choice: gr.update(visible=choice == "words"), background, others, show_progress="hidden", api_visibility="private"
        )
        background.input(calls.rest, fields, **still)
        viewer.clicked(calls.clicked, None, trigger_mode="multiple", **still)
        viewer.undo(calls.undo, None, trigger_mode="multiple", **still)
        viewer.redo(calls.redo, None, trigger_mode="multiple", **still)
        viewer.back(calls.back, None, **{**shown, "outputs": [*fields, viewer, notice]})
        save.click(calls.save, kind, [made, notice], show_progress="hidden", **once).then(None, made, None, js=_SAVE_JS)
        page.unload(calls.leave)
    return page.queue(max_size=64, api_open=False)


class _Calls:
    """What the page's events do: each gives what the viewer and the notice show. Errors are told in the notice, in their own words."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._serial = itertools.count(1)

    def image(self, event: gr.EventData, visitor: gr.Request, progress: gr.Progress = _PROGRESS, *fields: Any) -> tuple[Any, ...]:
        """An image came: encode it, and label it if there are words."""

        def work() -> tuple[Any, ...]:
            path, name = _sent(event._data)
            desk = self._work.open(_name(visitor), path, name, _teller(progress))
            if not _typed(fields[0], "the words").strip():
                return self._shown(desk, _ASK, whole=True)
            return self._labelled(visitor, fields, progress, whole=True)

        return self._told(work, again=visitor, whole=True)

    def example(self, event: gr.EventData, visitor: gr.Request, progress: gr.Progress = _PROGRESS, *fields: Any) -> tuple[Any, ...]:
        """A scene that comes along was chosen: it brings its words."""

        def work() -> tuple[Any, ...]:
            scenes = bundled.scenes()
            at = event._data.get("index") if isinstance(event._data, dict) else None
            if not isinstance(at, int) or not 0 <= at < len(scenes):
                raise OptionError(f"Got the scene {at!r}. Accepted is one of {len(scenes)}. Choose one below the image.")
            words = ", ".join(scenes[at].labels)
            self._work.open(_name(visitor), scenes[at].path, "", _teller(progress))
            return (words, *self._labelled(visitor, (words, *fields), progress, whole=True))

        return self._told(work, outputs=3, again=visitor, whole=True)

    def label(self, visitor: gr.Request, progress: gr.Progress = _PROGRESS, *fields: Any) -> tuple[Any, ...]:
        """Words were typed."""
        return self._told(lambda: self._labelled(visitor, fields, progress))

    def tune(self, visitor: gr.Request, *fields: Any) -> tuple[Any, ...]:
        """A knob was turned: the same words anew; nothing where nothing was labelled yet."""
        return self._told(lambda: self._labelled(visitor, fields, None, _CACHED)) if self._has_result(visitor) else _NOTHING

    def rest(self, visitor: gr.Request, *fields: Any) -> tuple[Any, ...]:
        """Another background was chosen; its own words are still to be typed."""
        return _NOTHING if fields[1] == "words" and not str(fields[2] or "").strip() else self.tune(visitor, *fields)

    def clicked(self, event: gr.EventData, visitor: gr.Request) -> tuple[Any, ...]:
        """The image was clicked."""

        def work() -> tuple[Any, ...]:
            found = event._data if isinstance(event._data, dict) else {}
            click = _clicked(found)
            started = time.perf_counter()
            desk = self._work.click(_name(visitor), click)
            return self._shown(desk, f"“{click.label}” taken in {time.perf_counter() - started:.2f} s{_CACHED}.")

        return self._told(work, again=visitor)

    def undo(self, visitor: gr.Request) -> tuple[Any, ...]:
        """The last click was taken back."""
        return self._told(lambda: self._shown(self._work.undo(_name(visitor)), "The last click is taken back."))

    def redo(self, visitor: gr.Request) -> tuple[Any, ...]:
        """A click that was taken back was wanted after all."""
        return self._told(lambda: self._shown(self._work.redo(_name(visitor)), "The click is there again."))

    def back(self, event: gr.EventData, visitor: gr.Request) -> tuple[Any, ...]:
        """The page was loaded anew: the tab gets its image, words and clicks again, if they are still there."""
        key = event._data.get("key") if isinstance(event._data, dict) else None
        desk = self._work.desks.claim(key[:_LONGEST_VISIT], _name(visitor)) if isinstance(key, str) else None
        if desk is None:
            return (*[gr.skip()] * (_FIELDS + 1), gr.skip())
        given: list[Any] = list(desk.fields) or [gr.skip()] * _FIELDS
        if desk.fields:
            given[_OTHERS] = gr.update(value=given[_OTHERS], visible=given[_BACKGROUND] == "words")
            given[_STEPS] = gr.update(value=given[_STEPS], interactive=not given[_ENDLESS])
        return self._told(lambda: (*given, *self._shown(desk, "Here is what this tab had before.", whole=True)), outputs=_FIELDS + 2)

    def save(self, visitor: gr.Request, format: str) -> tuple[Any, ...]:
        """A file was asked for. The door lets it go after an hour."""

        def work() -> tuple[Any, ...]:
            if format not in registry.names("writers"):
                raise OptionError(f"Got the format {format!r}. Accepted is one of the list. Choose it there.")
            folder = Path(tempfile.mkdtemp(dir=_uploads()))
            return str(self._work.save(_name(visitor), format, folder)), {}

        return self._told(work)

    def leave(self, visitor: gr.Request) -> None:
        """The visitor closed the page."""
        with suppress(ImageError):
            self._work.desks.leave(_name(visitor))

    def _has_result(self, visitor: gr.Request) -> bool:
        try:
            return self._work.desks.get(_name(visitor)).result is not None
        except ImageError:
            return False

    def _labelled(
        self, visitor: gr.Request, fields: Sequence[Any], progress: gr.Progress | None, said: str = "", *, whole: bool = False
    ) -> tuple[Any, ...]:
        words, background, others, alpha, beta, endless, steps = fields
        words, others = _typed(words, "the words"), _typed(others, "the background's words")
        if background not in [choice for _, choice in _BACKGROUNDS]:
            raise OptionError(f"Got {str(background)[:40]!r} for the rest. Accepted is one of the page's choices. Use the page.")
        recipe = self._work.segmenter.recipe
        own = Knobs.of(recipe)
        knobs = Knobs(
            _number(alpha, "α", own.highest_alpha), _number(beta, "β", 1.0), _whole(steps, "Steps", own.most_steps), bool(endless)
        )
        wish = self._work.wish(words, background, others, knobs.settings(recipe) if own != Knobs() else {})
        started = time.perf_counter()
        desk = self._work.label(_name(visitor), wish, _teller(progress), tuple(fields))
        seconds = f"Labelled in {time.perf_counter() - started:.2f} s{said}."
        return self._shown(desk, f"{seconds} {_POINT}", whole=whole)

    def _shown(self, desk: Desk, status: str, *, whole: bool = False) -> tuple[Any, ...]:
        image = view.image_data(desk.encoding.image) if whole else view.image_head(desk.encoding.image)
        data: dict[str, Any] = {"serial": next(self._serial), "image": image, "status": status, "bare": desk.result is None}
        data |= {"key": desk.key, "undone": len(desk.undone)}
        if desk.result is not None:
            data |= {"maps": view.maps(desk.result), "labels": view.legend(desk.result), "clicks": view.marks(desk.clicks, desk.result)}
        return data, {"kind": "note", "lines": list(self._work.notes(desk))}

    def _told(
        self, work: Callable[[], tuple[Any, ...]], *, outputs: int = 2, again: gr.Request | None = None, whole: bool = False
    ) -> tuple[Any, ...]:
        """Do it; where it fails say so, and with ``again`` show what the visitor has, which the browser may have drawn otherwise."""
        try:
            return work()
        except NerveSegError as error:
            lines = [_without_folders(str(error))]
        except Exception as error:  # a bug of ours: the log has it whole, the visitor what helps them
            _LOG.exception("The page failed.")
            lines = [f"Got an error that nerveseg did not expect ({type(error).__name__}). The log of `nerveseg app` says more."]
        before: Any = gr.skip()
        if again is not None:
            with suppress(ImageError):
                before = self._shown(self._work.desks.get(_name(again)), "", whole=whole)[0]
        return (*[gr.skip()] * (outputs - 2), before, {"kind": "error", "lines": lines})


def _name(visitor: gr.Request) -> str:
    """The name of a visit: made by the browser at random, another one in each tab.

    Raises:
        ImageError: none, or one that no browser makes: nobody shares a desk by it.
    """
    name = visitor.session_hash
    if not isinstance(name, str) or not 1 <= len(name) <= _LONGEST_VISIT:
        raise ImageError("Got a visit without a name of its own. Accepted is that of a browser's tab. Open the page again.")
    return name


def _teller(progress: gr.Progress | None) -> Callable[[str], None]:
    def tell(stage: str) -> None:
        if progress is not None and stage in STAGES:
            progress(STAGES[stage][0], desc=STAGES[stage][1])

    return tell


def _typed(value: Any, name: str) -> str:
    """Text as a browser sends it: None of a field that nobody typed into."""
    if value is not None and not isinstance(value, str):
        raise OptionError(f"Got {type(value).__name__} for {name}. Accepted is text. Use the page.")
    return value or ""


def _number(value: Any, name: str, most: float | None = None) -> float | int:
    """A number as a browser sends it, from 0 to ``most`` where that is given; any program may send something else.

    Raises:
        OptionError: something else.
    """
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not plain or not abs(value) < _LARGEST:  # NaN is not
        raise OptionError(f"Got {str(value)[:40]!r} for {name}. Accepted is a finite number. Use the page.")
    if most is not None and not 0 <= value <= most:
        raise OptionError(f"Got {value:g} for {name}. Accepted is a number from 0 to {most:g}. Choose one in that range.")
    return value


def _whole(value: Any, name: str, most: float) -> int:
    number = _number(value, name, most)
    if number != int(number):
        raise OptionError(f"Got {number} for {name}. Accepted is a whole number. Use the page.")
    return int(number)


def _clicked(found: Mapping[str, Any]) -> Click:
    """A click as a browser sends it."""
    label = found.get("label")
    if not isinstance(label, str):
        raise OptionError("Got a click without a label. Accepted is one of the legend, or a new one. Choose it below the image.")
    return Click(label, points=[(_number(found.get("x"), "x"), _number(found.get("y"), "y"))])


def _without_folders(text: str) -> str:
    """A message without the places here of what was sent or written: the name alone."""
    return re.sub(rf"{re.escape(str(_uploads()))}/(?:[^/\s]+/)*", "", text)


def _sent(data: Any) -> tuple[Path, str]:
    """The file that was sent, and its own name.

    Raises:
        ImageError: a path that is not of a file that was sent.
    """
    given = data if isinstance(data, dict) else {}
    path = Path(str(given.get("path", ""))).resolve()
    if not path.is_relative_to(_uploads()) or not path.is_file():
        raise ImageError("Got an image that was not sent here. Accepted is a file of yours. Drop it on the page.")
    return path, str(given.get("name", ""))


def _uploads() -> Path:
    """Where Gradio puts what is sent, and the copies of what it serves."""
    return Path(get_upload_folder()).resolve()


def _head(recipe: str, place: str) -> str:
    said = html.escape(" · ".join(filter(None, [f"recipe {recipe}", place])))
    lead = "<h1>nerveseg</h1><p>Any image, any words: every pixel gets a label.</p>"
    return f'<div class="nv-head">{lead}<span class="nv-recipe">{said}</span></div>'


def _examples() -> list[dict[str, str]]:
    found = []
    for scene in bundled.scenes():
        with Image.open(scene.path) as image:
            found.append({"name": scene.name.replace("-", " "), "url": view.thumbnail(np.asarray(image.convert("RGB")))})
    return found


def _formats() -> list[tuple[str, str]]:
    """Every writer: its name and the first words of what it says of itself, and its name."""
    first = {
        name: re.split(r"[:;,.]\s", (registry.load("writers", name).__doc__ or "").strip())[0].rstrip(".")
        for name in registry.names("writers")
    }
    return [(f"{name} – {line}" if line else name, name) for name, line in first.items()]


def _text(name: str) -> str:
    return files("nerveseg.ui").joinpath(name).read_text("utf-8")
