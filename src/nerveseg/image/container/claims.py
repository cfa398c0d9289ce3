"""A file that is looked into, and how a refusal is worded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BufferedIOBase
from typing import NoReturn

from nerveseg.errors import ImageError, ImageTooLarge

__all__ = ["BYTES_A_PIXEL", "File"]

BYTES_A_PIXEL = 16
"""Bytes that a pixel may take when decoded: four bands of float32. Smaller images may have more."""


@dataclass(frozen=True)
class File:
    """An image's file, read by position. Reads beyond its end give what there is.

    Attributes:
        file: seekable.
        size: its bytes.
        where: what to call it in messages.
        max_pixels: cap on height × width.
    """

    file: BufferedIOBase
    size: int
    where: str
    max_pixels: int

    @classmethod
    def of(cls, file: BufferedIOBase, where: str, max_pixels: int) -> File:
        """Measure a file; its position stays."""
        before = file.tell()
        size = file.seek(0, os.SEEK_END)
        file.seek(before)
        return cls(file, size, where, max_pixels)

    def read(self, at: int, count: int) -> bytes:
        """``count`` bytes from ``at``, or fewer."""
        if not 0 <= at < self.size or count <= 0:
            return b""
        self.file.seek(at)
        return self.file.read(min(count, self.size - at))

    def number(self, at: int, count: int, *, little: bool = False) -> int:
        """An unsigned number of ``count`` bytes; 0 beyond the end."""
        return int.from_bytes(self.read(at, count).ljust(count, b"\0"), "little" if little else "big")

    def refuse(self, found: str, accepted: str, advice: str = "Save it again with another program.") -> NoReturn:
        """Say what was found in the file, and what is accepted."""
        raise ImageError(f"Got {self.where}, {found}. Accepted {accepted}. {advice}")

    def check_size(self, height: int, width: int, what: str) -> None:
        """Refuse more pixels than the cap: for sizes that PIL does not say, or says too late."""
        if height * width > self.max_pixels:
            raise ImageTooLarge(
                f"Got {self.where}, {what} of {height}×{width} = {height * width:,} pixels. Accepted are at most {self.max_pixels:,}. "
                "Shrink it, cut it into parts, or raise max_pixels."
            )

    def check_bytes(self, count: int, what: str) -> None:
        """Refuse an image that takes more bytes when decoded than the cap on pixels allows."""
        most = self.max_pixels * BYTES_A_PIXEL
        if count > most:
            raise ImageTooLarge(
                f"Got {self.where}, {what} that takes {count:,} bytes when decoded. Accepted are at most {most:,}. "
                "Keep fewer bands, shrink it, or raise max_pixels."
            )
