"""Escape control characters in file names, labels and messages before they reach the terminal."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderResult
    from rich.measure import Measurement

__all__ = ["escaped", "kept_plain", "shown"]

_HIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})  # control characters, bytes of names that are no UTF-8, separators of lines
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # marks that turn what follows around


def shown(text: str, *, lines: bool = False) -> str:
    r"""Text with control characters spelled out.

    Args:
        text: from anywhere.
        lines: keep line ends, where the text has lines of its own. Tabs stay.

    >>> shown("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return text if text.isprintable() else "".join(letter if _is_plain(letter, lines=lines) else _spelled(letter) for letter in text)


def escaped(json: str) -> str:
    r"""JSON in which control characters that JSON takes as they are, and parts of letters, are escapes: it says the same.

    >>> escaped('"\x9b"')
    '"\\u009b"'
    """
    if json.isprintable():
        return json
    return "".join(letter if _is_plain(letter, lines=False) else f"\\u{ord(letter):04x}" for letter in json)


def kept_plain(console: Console) -> Console:
    """The console, which spells out control characters in all that it prints; its own styles stay."""
    console.push_render_hook(_Hook())  # type: ignore[arg-type]  it is one by its method
    return console


def _is_plain(letter: str, *, lines: bool) -> bool:
    return letter == "\t" or (lines and letter == "\n") or not (unicodedata.category(letter) in _HIDDEN or letter in _TURNS)


def _spelled(letter: str) -> str:
    number = ord(letter)
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a name that is no UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


class _Hook:
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Plain(one) for one in renderables]


@dataclass(frozen=True, eq=False)
class _Plain:
    """Anything rich prints, its letters spelled out once it is laid out."""

    held: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for part in console.render(self.held, options):
            yield part if part.control else Segment(shown(part.text, lines=True), part.style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement.get(console, options, self.held)
