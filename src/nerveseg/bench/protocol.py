"""The field's two protocols for scoring the same masks. Which files belong to each is stated by the data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from nerveseg.errors import OptionError
from nerveseg.registry import meant

__all__ = ["PROTOCOLS", "Protocol", "protocol"]


@dataclass(frozen=True)
class Protocol:
    """How masks are scored.

    Attributes:
        name: "sclip" or "cliper".
        average: of `nerveseg.bench.confusion.metrics`.
        misses: whether a pixel may be left to no class at all where the data set has no background; such a pixel is wrong.
        about: one line for people.
    """

    name: str
    average: str
    misses: bool
    about: str


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "sclip": Protocol(
            "sclip",
            "union",
            misses=False,
            about="SCLIP and its relatives: IoU over the classes that are true or guessed; without a background every pixel gets a class",
        ),
        "cliper": Protocol(
            "cliper",
            "truth",
            misses=True,
            about="CLIPer and iSeg: IoU over the classes that are true; a pixel may be left to no class, which is a miss",
        ),
    }
)
"""Name → protocol; the first is the default."""


def protocol(name: str) -> Protocol:
    """Look a protocol up; raises `OptionError` with the accepted names."""
    if name not in PROTOCOLS:
        raise OptionError(f"Got the protocol {name!r}. Accepted are {', '.join(PROTOCOLS)}. {meant(name, PROTOCOLS)}")
    return PROTOCOLS[name]
