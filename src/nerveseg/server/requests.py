"""Parse what a client asks: form or JSON → words, background, settings and clicks, with limits checked first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from nerveseg.segmentation import Segmentation
from nerveseg.segmenter import Encoding, Segmenter
from nerveseg.server import strict_json
from nerveseg.server.limits import Limits
from nerveseg.server.problems import Problem
from nerveseg.server.settings import Settings
from nerveseg.words import prompts
from nerveseg.words.label_line import counted, parted
from nerveseg.words.untrained import untrained
from nerveseg.words.vocabulary import Background, Label, Vocabulary, need_background

__all__ = ["Ask", "of_form", "of_json"]

_FIELDS = ("labels", "background", "settings", "clicks")
_WAS = {"seeds": "clicks"}
"""What a field was called → what it is called; old names are taken for one release."""
_NONE, _AUTO = "none", "auto"


@dataclass(frozen=True, eq=False)
class Ask:
    """What is asked of an image.

    Attributes:
        vocabulary: the labels.
        background: what stands for the rest, or None.
        settings: knobs by dotted name.
        clicks: clicks, as they came, checked.
    """

    vocabulary: Vocabulary
    background: Background | None
    settings: Mapping[str, Any]
    clicks: tuple[Any, ...] = ()

    def decoded(self, segmenter: Segmenter, encoding: Encoding) -> Segmentation:
        """The answer, by the segmenter that made the encoding."""
        return segmenter.decode(encoding, self.vocabulary, background=self.background, clicks=self.clicks, settings=self.settings)

    def notes(self, segmenter: Segmenter) -> tuple[str, ...]:
        """One sentence on the words that the text tower does not know, one on each that it cuts: the same whoever asked before."""
        recipe = segmenter.recipe
        strings = (*self.vocabulary.strings, *(self.background.asked if self.background else ()))
        with segmenter.turn:  # a tokenizer is not for several threads
            tower = segmenter.networks.get(recipe.labels.module.embeds) if recipe.labels.module.embeds else None
            if tower is None:
                return ()
            unknown = tower.unknown(strings)
            cut = tower.truncated(strings, prompts.template_set(recipe.templates))
        told = (untrained(unknown, "the recipe's text tower") + ".",) if unknown else ()
        return (*told, *(f"{word!r} is longer than the text tower reads; its end was cut." for word in cut))


def of_form(form: Mapping[str, str], limits: Limits, settings: Settings) -> Ask:
    """Read the fields of a form: ``labels`` and ``background`` are lines (``cat; kitten, dog``) or JSON, the others JSON.

    Raises:
        Problem: 422, with the field; LabelError and OptionError: as the library has them.
    """
    content: dict[str, Any] = {}
    for name, text in form.items():
        if name in ("settings", "clicks", *_WAS) or text.lstrip()[:1] in ("[", "{"):
            content[name] = _json(text, name)
        elif name == "background" and text.strip().lower() in ("", _NONE):
            content[name] = None
        else:
            content[name] = text
    return of_json(content, limits, settings)


def of_json(content: Mapping[str, Any], limits: Limits, settings: Settings) -> Ask:
    """Read the members of a JSON object; ``labels`` is a line, or a list of words and of lists of synonyms.

    Raises:
        As `of_form`.
    """
    content = {_WAS.get(name, name): value for name, value in content.items()}
    for name in content:
        if name not in _FIELDS:
            raise _wrong(name, f"Got the field {name!r}. Accepted are {', '.join(_FIELDS)}. Leave it out.")
    if content.get("labels") in (None, "", [], {}):
        raise _wrong("labels", "Got no labels. Accepted is one label or more. Name what to look for.")
    labels, background = content["labels"], content.get("background")
    if background in (_NONE, _AUTO):
        background = None if background == _NONE else _AUTO
    _count([("labels", labels), ("background", None if background == _AUTO else background)], limits)
    vocabulary = Vocabulary.parse_line(labels) if isinstance(labels, str) else Vocabulary.parse(labels)
    if isinstance(background, str) and background != _AUTO:
        background = Vocabulary.parse_line(background)
    beside = Background.parse(background, vocabulary)
    clicks = _clicks(content.get("clicks"), limits)
    more = {click.label for click in clicks} - set(vocabulary.names)
    if len(vocabulary) + len(more) > limits.max_labels:
        raise Problem(413, "labels", f"Got {len(more):,} labels by click. Accepted are {limits.max_labels:,} in all. Send fewer.")
    if not clicks:
        need_background(vocabulary, beside)
    return Ask(vocabulary, beside, MappingProxyType(settings.read(content.get("settings"))), clicks)


def _json(text: str, name: str) -> Any:
    try:
        return strict_json.read(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(name, f"Got {name} that are no JSON ({type(error).__name__}). Accepted is JSON. Check brackets and quotes.") from error


def _count(given: list[tuple[str, Any]], limits: Limits) -> None:
    """Refuse too much before anything is made of it."""
    words = 0
    for name, part in given:
        entries = _entries(part, name)
        most = limits.max_labels if name == "labels" else limits.max_words
        if len(entries) > most:
            raise Problem(413, "labels", f"Got {len(entries):,} entries in {name}. Accepted are {most:,}. Send fewer, or several requests.")
        for word in _words(entries, name):
            words += 1
            if len(word) > limits.max_letters:
                raise Problem(
                    413, "labels", f"Got a word of {len(word):,} letters in {name}. Accepted are {limits.max_letters:,}. Shorten it."
                )
    if words > limits.max_words:
        raise Problem(
            413, "labels", f"Got {words:,} words, synonyms and background counted. Accepted are {limits.max_words:,}. Send fewer."
        )


def _entries(part: Any, name: str) -> list[Any]:
    if part is None:
        return []
    if isinstance(part, str):
        return parted(part)
    if not isinstance(part, (list, tuple)):
        raise _wrong(name, f"Got {type(part).__name__} for {name}. Accepted are a line of words, or a list. Labels need an order.")
    return list(part)


def _words(entries: list[Any], name: str) -> Iterator[str]:
    for entry in entries:
        for part in entry if isinstance(entry, list) else [entry]:
            if not isinstance(part, str):
                raise _wrong(name, f"Got {type(part).__name__} among {name}. Accepted are strings. Write words in quotes.")
            yield from counted(part)


def _clicks(given: Any, limits: Limits) -> tuple[Any, ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        raise _wrong("clicks", f"Got {type(given).__name__} for the clicks. Accepted is a list. Write [...] around one.")
    left = [limits.max_points]
    _check_room(left, len(given))
    return tuple(_click(entry, f"clicks[{place}]", left, limits) for place, entry in enumerate(given))


def _click(entry: Any, where: str, left: list[int], limits: Limits) -> Any:
    from nerveseg.clicks import Click

    if not isinstance(entry, dict) or not isinstance(entry.get("label"), str) or set(entry) - {"label", "points", "strokes", "box"}:
        raise _wrong(where, f"Got no click as {where}. Accepted are label, with points, strokes or a box. See the page of the service.")
    if len(entry["label"]) > limits.max_letters:
        raise Problem(413, "labels", f"Got a label of {len(entry['label']):,} letters in {where}. Accepted are {limits.max_letters:,}.")
    (label,) = Vocabulary.parse([Label(entry["label"], (entry["label"],))]).names  # the same letters are refused as in labels
    strokes = entry.get("strokes", [])
    if not isinstance(strokes, list):
        raise _wrong(where, f"Got {type(strokes).__name__} for the strokes of {where}. Accepted is a list of lists of points.")
    _check_room(left, len(strokes))
    box = entry.get("box")
    return Click(
        label,
        points=_points(entry.get("points", []), where, left),
        strokes=tuple(_stroke(stroke, where, left) for stroke in strokes),
        box=None if box is None else _numbers(box, 4, where, left),
    )


def _stroke(given: Any, where: str, left: list[int]) -> tuple[tuple[float, ...], ...]:
    found = _points(given, where, left)
    if not found:
        raise _wrong(where, f"Got a stroke without points in {where}. Accepted is one point or more. Leave it out.")
    return found


def _points(given: Any, where: str, left: list[int]) -> tuple[tuple[float, ...], ...]:
    if not isinstance(given, list):
        raise _wrong(where, f"Got {type(given).__name__} for the points of {where}. Accepted is a list of [x, y].")
    _check_room(left, len(given))
    return tuple(_numbers(point, 2, where, left) for point in given)


def _numbers(given: Any, count: int, where: str, left: list[int]) -> tuple[float, ...]:
    _check_room(left, 1)
    left[0] -= 1
    plain = isinstance(given, list) and len(given) == count
    if not plain or not all(_is_number(number) for number in given):
        raise _wrong(where, f"Got no {count} finite numbers in {where}. Accepted are pixels, [x, y] or [left, top, right, bottom].")
    return tuple(float(number) for number in given)


def _check_room(left: list[int], more: int) -> None:
    """Refuse a list by its length, before what is in it is looked at."""
    if more > left[0]:
        raise Problem(413, "clicks", "Got too many clicks, points and strokes. Accepted is what /v1/models says as max_points. Send fewer.")


def _is_number(value: Any) -> bool:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return plain and abs(value) < 1e9 and math.isfinite(value)


def _wrong(where: str, detail: str) -> Problem:
    return Problem(422, "request", detail, extra={"errors": [{"where": where, "message": detail}]})
