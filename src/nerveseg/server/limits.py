"""Limits of one request, and of all together."""

from __future__ import annotations

from dataclasses import dataclass

from nerveseg.registry import knob

__all__ = ["Limits"]

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Limits of the service; check them with `nerveseg.registry.check`."""

    body_mib: float = knob(20.0, "MiB of a request's body. Larger: bigger files pass, more memory.", above=0, high=4096)
    max_pixels: int = knob(25_000_000, "Height × width of an image, checked before it is decoded. Larger: more memory and time.", low=1)
    max_labels: int = knob(256, "Labels of a request. Larger: longer answers.", low=1, high=65_535)
    max_words: int = knob(1024, "Words of a request: synonyms and background words count. Larger: longer text passes.", low=1)
    max_letters: int = knob(100, "Letters of one word. Larger: nothing, CLIP reads few.", low=1, high=10_000)
    max_points: int = knob(2000, "Points of the clicks, strokes and boxes of a request.", low=0)
    readers: int = knob(2, "Images that are decoded at one time, each in a process of its own. Larger: more memory.", low=1, high=64)
    seconds: float = knob(60.0, "Seconds from a request's head to its answer. Larger: bigger work passes.", above=0, high=86_400)
    read_seconds: float = knob(
        20.0, "Seconds that a head, and then a body, may take to arrive, and an answer to be read. Larger: slower clients pass.", above=0
    )
    queue: int = knob(16, "Requests that may wait for a worker; beyond it 429. Larger: longer waits in place of refusals.", low=1)
    open: int = knob(
        32, "Requests with a body that are in hand at one time, read or waiting; beyond it 429. Each may hold body_mib.", low=1
    )
    connections: int = knob(
        256, "Connections at one time; beyond it the one longest without a request goes, or 503. Fewer where open files are.", low=1
    )
    batch: int = knob(0, "Images that share passes when they wait together; 0: 4 on an accelerator, 1 on the CPU.", low=0, high=256)
    handle_seconds: float = knob(600.0, "Seconds after its last use that an encoding is kept.", above=0)
    handle_mib: float = knob(1024.0, "MiB of encodings that are kept; beyond it the one used longest ago goes.", above=0)
    drain_seconds: float = knob(90.0, "Seconds from SIGTERM to the end at the latest.", above=0)

    @property
    def body(self) -> int:
        """Bytes of a request's body."""
        return int(self.body_mib * _MIB)

    @property
    def handles(self) -> int:
        """Bytes of encodings that are kept."""
        return int(self.handle_mib * _MIB)
