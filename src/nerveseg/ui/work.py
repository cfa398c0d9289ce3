"""The page's actions: open an image, label it, add and undo clicks, write a file. One visitor at a time uses the networks."""

from __future__ import annotations

import dataclasses
import threading
import time
import unicodedata
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nerveseg import registry
from nerveseg.clicks import Click, Correction
from nerveseg.errors import ImageError, LabelError, OptionError
from nerveseg.image import LoadedImage
from nerveseg.image.readers import Readers
from nerveseg.postprocess import StageTimer
from nerveseg.segmentation import Segmentation
from nerveseg.segmenter import Segmenter, UnfamiliarImageWarning, UntrainedWordWarning
from nerveseg.server.requests import Ask
from nerveseg.ui.state import Desk, Desks, Wish
from nerveseg.words.label_line import counted, parted
from nerveseg.words.vocabulary import Background, Label, Vocabulary, folded, need_background
from nerveseg.writers.base import is_collection

__all__ = ["MAX_LABELS", "MAX_PIXELS", "Work", "written"]

MAX_PIXELS = 50_000_000
"""Pixels of an image that the page takes."""

MAX_LABELS = 512
"""Labels that the page takes at once."""

_MAX_LETTERS = 20_000
_TRAIL = 8  # corrections that are kept, so that taking clicks back is exact and at once; older ones are made again
_LONGEST_READING = 60.0  # seconds
_LONGEST_NAME = 80
_LONGEST_LABEL = 200
_MOST_CLICKS = 500
_BIG = 2048  # pixels of the shorter side, as on the command line
_DATE = (1980, 1, 1, 0, 0, 0)

Told = Callable[[str], None]


def _quiet(_: str) -> None:
    """Tell nobody."""


class Work:
    """A segmenter, and the desks of those who use it. Any thread may call; calls that need the networks wait for each other.

    Args:
        segmenter: does the work.
        desks: what is kept of each visitor.
    """

    def __init__(self, segmenter: Segmenter, desks: Desks | None = None) -> None:
        self.segmenter, self.desks = segmenter, Desks() if desks is None else desks  # none on them yet is false, too
        self.readers = Readers()
        self._turn = threading.Lock()

    def wish(self, words: str, background: str, others: str, settings: dict[str, Any] | None = None) -> Wish:
        """Read what the fields say.

        Args:
            words: labels parted by ``,``, synonyms by ``;``.
            background: ``none``, ``auto`` or ``words``.
            others: with ``words``: what stands for the rest, parted by ``,``.
            settings: knobs by dotted name.

        Raises:
            LabelError: words that cannot become labels, or too many.
        """
        for text in (words, others):
            count = sum(len(counted(part)) for part in parted(text))
            if len(text) > _MAX_LETTERS or count > MAX_LABELS:
                raise LabelError(
                    f"Got {count:,} words in {len(text):,} letters. Accepted on this page are "
                    f"{MAX_LABELS} words in {_MAX_LETTERS:,} letters. Take some out, or use nerveseg segment --labels FILE."
                )
        if not words.strip():
            raise LabelError("Got no words. Accepted are words parted by commas. Name what is in the image.")
        words, others = (", ".join(line for line in text.split("\n") if line.strip()) for text in (words, others))
        vocabulary = Vocabulary.parse_line(words)
        if background == "words" and not others.strip():
            raise LabelError("Got no words for the background. Accepted are words parted by commas. Name what stands for the rest.")
        given: Any = Vocabulary.parse_line(others) if background == "words" else "auto" if background == "auto" else None
        beside = Background.parse(given, vocabulary)
        need_background(vocabulary, beside)
        return Wish(vocabulary, beside, settings or {})

    def notes(self, desk: Desk) -> tuple[str, ...]:
        """What a visitor should know: what was changed of the image, and words that the networks do not know or cut."""
        found = (*desk.encoding.image.notes, *_few_seen(desk.encoding.image))
        return found if desk.wish is None else (*found, *Ask(desk.wish.vocabulary, desk.wish.background, {}).notes(self.segmenter))

    def open(self, visitor: str, source: Path | bytes, name: str = "", told: Told = _quiet) -> Desk:
        """Pass an image through the networks; what the visitor had before is gone.

        Raises:
            ImageError: not an image, or too large.
        """
        told("read")
        before = self._passes(visitor)
        self.desks.drop(visitor)
        image = self._read(source, name)
        with self._device():
            encoding = self.segmenter.encode(image, watch=StageTimer(told))
        return self.desks.put(visitor, Desk(encoding, passes=before + 1))

    def label(self, visitor: str, wish: Wish, told: Told = _quiet, fields: tuple[Any, ...] = ()) -> Desk:
        """Label the image. Clicks stay, but for those that gave a word which is asked for no more. ``fields`` are kept for a reload.

        Raises:
            ImageError: no image. LabelError, OptionError: the wish.
        """
        desk = self.desks.get(visitor)
        if desk.result is not None and (desk.wish, desk.fields, desk.undone) == (wish, fields, ()):
            return desk  # asked twice
        kept = tuple(click for click in desk.clicks if _still(click, desk.wish, wish))
        fresh = dataclasses.replace(desk, wish=wish, clicks=kept, start=None, trail=(), undone=(), fields=fields)
        with self._device():
            if not kept:
                result = self.segmenter.decode(
                    desk.encoding, wish.vocabulary, background=wish.background, settings=wish.settings, watch=StageTimer(told)
                )
                return self.desks.put(visitor, dataclasses.replace(fresh, result=result))
            start = self._start(fresh)
            step = _alone(start.add(*kept))
        return self.desks.put(visitor, dataclasses.replace(fresh, start=start, trail=(step,), result=step.result))

    def click(self, visitor: str, click: Click) -> Desk:
        """Take a click.

        Raises:
            ImageError: no image. LabelError: the label. OptionError: nothing is labelled yet, a place outside of the image, or so
                many clicks.
        """
        desk = self._labelled(visitor)
        if len(click.label) > _LONGEST_LABEL:
            raise LabelError(f"Got a label of {len(click.label):,} letters. Accepted are {_LONGEST_LABEL}. Shorten it.")
        Vocabulary.parse([Label(click.label, (click.label,))])  # what no label may hold is refused before the matrix of the clicks is made
        if len(desk.clicks) >= _MOST_CLICKS:
            raise OptionError(f"Got {_MOST_CLICKS} clicks already. Accepted are no more on this page. Take some back.")
        with self._device():
            start = desk.start or self._start(desk)
            step = _alone((desk.trail[-1] if desk.trail else start).add(click))
        changed = {
            "start": start,
            "trail": (*desk.trail, step)[-_TRAIL:],
            "clicks": (*desk.clicks, click),
            "result": step.result,
            "undone": (),
        }
        return self.desks.put(visitor, dataclasses.replace(desk, **changed))

    def undo(self, visitor: str) -> Desk:
        """Take the last click back; nothing where there is none."""
        desk = self._labelled(visitor)
        if not desk.clicks or desk.start is None:
            return desk
        clicks, trail = desk.clicks[:-1], desk.trail[:-1]
        if clicks and not trail:
            with self._device():
                trail = (_alone(desk.start.add(*clicks)),)
        result = trail[-1].result if clicks else desk.start.result
        undone = (*desk.undone, desk.clicks[-1])
        return self.desks.put(visitor, dataclasses.replace(desk, clicks=clicks, trail=trail, result=result, undone=undone))

    def redo(self, visitor: str) -> Desk:
        """Take again the click that was taken back last; nothing where there is none."""
        desk = self._labelled(visitor)
        if not desk.undone:
            return desk
        return self.desks.put(visitor, dataclasses.replace(self.click(visitor, desk.undone[-1]), undone=desk.undone[:-1]))

    def save(self, visitor: str, format: str, folder: Path) -> Path:
        """Write the visitor's result in a writer's format into a folder that is there; see `written`."""
        result = self._labelled(visitor).result
        if result is None:
            raise OptionError("Got nothing to write. Accepted is a labelled image. Type words first.")
        return written(result, format, folder)

    def _labelled(self, visitor: str) -> Desk:
        desk = self.desks.get(visitor)
        if desk.result is None:
            raise OptionError("Got an image without labels yet. Accepted is a labelled one. Type words first.")
        return desk

    def _passes(self, visitor: str) -> int:
        try:
            return self.desks.get(visitor).passes
        except ValueError:
            return 0

    def _read(self, source: Path | bytes, name: str) -> LoadedImage:
        """In a process of its own, and before the networks are asked for, so that one visitor's file keeps nobody waiting."""
        try:
            return self.readers.read(source, max_pixels=MAX_PIXELS, name=_plain(name), until=time.monotonic() + _LONGEST_READING)
        except TimeoutError as error:
            raise ImageError(
                f"Got an image that was not read within {_LONGEST_READING:g} s. Accepted is one that decodes in a few seconds. Try it "
                "again, or save it as PNG or baseline JPEG."
            ) from error

    def _start(self, desk: Desk) -> Correction[Segmentation]:
        wish = desk.wish
        if wish is None:
            raise OptionError("Got a click before words. Accepted is a labelled image. Type words first.")
        return self.segmenter.correct(desk.encoding, wish.vocabulary, background=wish.background, settings=wish.settings)

    @contextmanager
    def _device(self) -> Iterator[None]:
        """One at a time; words that the networks do not know are told by `notes`, not warned of."""
        with self._turn, warnings.catch_warnings():
            for said in (UnfamiliarImageWarning, UntrainedWordWarning):
                warnings.simplefilter("ignore", said)
            yield


def written(result: Segmentation, format: str, folder: Path) -> Path:
    """Write a result in a writer's format, as one file.

    Args:
        result: the result.
        format: a name in the registry kind ``writers``.
        folder: an empty folder.

    Returns:
        The writer's file, or a zip where it writes several.

    Raises:
        OutputError: too many labels for the format. MissingExtra: the format needs a package that is not installed.
    """
    writer = registry.load("writers", format)
    inside = folder / "files"
    inside.mkdir()
    place = inside if is_collection(writer) else inside / f"{result.stem}{writer.suffix}"
    files = result.save(place, format)
    if len(files) == 1:
        return files[0]
    packed = folder / f"{result.stem}-{format}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(files):
            entry = zipfile.ZipInfo(file.relative_to(inside).as_posix(), _DATE)
            entry.external_attr = 0o644 << 16  # else unpacked files are closed to their owner
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed


def _few_seen(image: LoadedImage) -> tuple[str, ...]:
    """A sentence where the networks see so little of an image that tiles would show more."""
    if min(image.size) < _BIG:
        return ()
    height, width = image.size
    return (
        f"The image has {height} × {width} pixels, of which the networks see few: small things are lost here. "
        "nerveseg segment --tile 1024 shows them more.",
    )


def _alone(step: Correction[Segmentation]) -> Correction[Segmentation]:
    """Without those before it, which would be kept as long as it is."""
    return dataclasses.replace(step, before=None)


def _still(click: Click, old: Wish | None, new: Wish) -> bool:
    return folded(click.label) not in _words(old) or folded(click.label) in _words(new)


def _words(wish: Wish | None) -> frozenset[str]:
    if wish is None:
        return frozenset()
    beside = (wish.background.name,) if wish.background else ()
    return frozenset(folded(word) for word in (*wish.vocabulary.names, *wish.vocabulary.strings, *beside))


def _plain(name: str) -> str | None:
    """A file's name as a browser gives it: without folders, control characters or a length that file systems refuse."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(letter for letter in last if unicodedata.category(letter)[0] != "C")
    path = Path(kept)
    stem, ending = path.stem[:_LONGEST_NAME].strip(), path.suffix[:12]
    return f"{stem}{ending}" if stem.strip(".") else None
