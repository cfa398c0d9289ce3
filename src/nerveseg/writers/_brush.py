"""Label Studio's run lengths of a brush mask: a row of bytes, the image's pixels four times each (RGBA), packed bit by bit.

    head     32 bits: number of bytes N = 4·H·W;  5 bits: bits of a value − 1;  4 × 4 bits: bits of each of four lengths − 1
    packet   1 bit: whether one value repeats;  2 bits: which of the four lengths;  length − 1;  then the value once, or all values

Highest bits first, padded with 0 to a whole byte. The lengths are of 3, 4, 8 and 16 bits, values of 8: 0 outside, 255 inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from nerveseg.errors import ImageError

__all__ = ["MOST", "decode", "encode"]

MOST = (1 << 30) - 1
"""Pixels that an image may have: their bytes are counted in 32 bits."""

_CHANNELS = 4
_VALUE = 8
_LENGTHS = np.array([3, 4, 8, 16])
_KIND = 3  # bits before a packet's length


def encode(lengths: Int64[np.ndarray, " r"]) -> bytes:
    """Pack runs of pixels, row by row from the top left: outside, inside, outside, …; any may be 0.

    Args:
        lengths: pixels of each run; their sum is that of the image, at most `MOST`.
    """
    size = _CHANNELS * lengths
    value = np.where(np.arange(size.size) % 2 == 1, 255, 0)
    most = 1 << int(_LENGTHS[-1])
    packets = -(-size // most)
    last = np.cumsum(packets)[packets > 0] - 1
    length = np.full(int(packets.sum()), most, dtype=np.int64)
    length[last] = (size - (packets - 1) * most)[packets > 0]
    value = np.repeat(value, packets)
    kind = np.searchsorted(1 << _LENGTHS, length)
    wide = _LENGTHS[kind]
    words = ((((4 | kind) << wide) | (length - 1)) << _VALUE) | value
    head = (int(size.sum()) << 5) | (_VALUE - 1)
    for bits in _LENGTHS.tolist():
        head = (head << 4) | (bits - 1)
    return np.packbits(np.concatenate([_bits(np.array([head]), np.array([53])), _bits(words, _KIND + wide + _VALUE)])).tobytes()


def decode(packed: bytes, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """The mask: where the fourth channel is not 0.

    Args:
        packed: what `encode` gives, or Label Studio itself.
        size: (height, width) of the image.

    Raises:
        ImageError: bytes that are no such packing, or of another size.
    """
    try:
        found = np.concatenate([*_values(_Bits(packed), _CHANNELS * size[0] * size[1])])
    except (ValueError, IndexError) as error:
        raise ImageError(
            f"Got {len(packed)} bytes of a brush mask for {size[0]}×{size[1]} pixels ({error}). Accepted are Label Studio's run lengths. "
            "Write the file again."
        ) from error
    return found.reshape(*size, _CHANNELS)[:, :, -1] > 0


@dataclass
class _Bits:
    held: bytes
    at: int = 0

    def take(self, count: int) -> int:
        """The next bits as a number."""
        first, end = self.at // 8, -(-(self.at + count) // 8)
        if end > len(self.held):
            raise ValueError("they end early")
        self.at += count
        return (int.from_bytes(self.held[first:end], "big") >> (8 * end - self.at)) & ((1 << count) - 1)


def _values(bits: _Bits, total: int) -> Iterator[UInt8[np.ndarray, " v"]]:
    """The packets' values, ``total`` in all."""
    if bits.take(32) != total:
        raise ValueError("they say another number of pixels")
    value = bits.take(5) + 1
    lengths = [bits.take(4) + 1 for _ in range(4)]
    if value != _VALUE:
        raise ValueError(f"values of {value} bits")
    done = 0
    while done < total:
        repeats, kind = bits.take(1), bits.take(2)
        length = bits.take(lengths[kind]) + 1
        done += length
        if done > total:
            raise ValueError("they run past the end")
        yield np.full(length, bits.take(_VALUE), np.uint8) if repeats else np.array([bits.take(_VALUE) for _ in range(length)], np.uint8)


def _bits(words: Int64[np.ndarray, " w"], wide: Int64[np.ndarray, " w"]) -> UInt8[np.ndarray, " b"]:
    """The last ``wide`` bits of each word, highest first, one after the other."""
    place = np.arange(int(wide.sum())) - np.repeat(np.cumsum(wide) - wide, wide)
    return ((np.repeat(words, wide) >> (np.repeat(wide, wide) - 1 - place)) & 1).astype(np.uint8)
