"""Knobs of clicks, as ``{"clicks.alpha": 0.99}`` among the settings of `Segmenter.decode` and `Segmenter.correct`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nerveseg.registry import knob
from nerveseg.registry import options as checked

__all__ = ["BESIDE", "EDGED", "Options", "parted"]

BESIDE = 0.997
"""α of clicks beside the walk on S alone, where it is not said."""

EDGED = 0.998
"""The same where the image's edges hold them."""


@dataclass(frozen=True)
class Options:
    """How far a click reaches, and what it says."""

    alpha: float | None = knob(
        None,
        f"α of clicks; larger: a click reaches more, across weaker edges too. None: {EDGED} beside the walk where colours count, "
        f"{BESIDE} where they do not; the walk's own within.",
        low=0,
        below=1,
        source="validation scenes of the embedded world",
    )
    contrast: float = knob(
        0.5,
        "How much the contrast of neighbours' colours weakens steps of clicks; larger: they cross fewer edges of the image. 0: S alone.",
        low=0,
        high=100,
        source="validation scenes of the embedded world",
    )
    beta: float | None = knob(
        0.1,
        "Share of the global graph where contrast counts; larger: a click reaches more of what looks alike elsewhere. None: the recipe's.",
        low=0,
        high=1,
        source="validation scenes of the embedded world",
    )
    system: str = knob(
        "beside",
        "beside: a walk of its own carries clicks, and where it stops labels stay as they are; within: the walk itself ends at clicks.",
        choices=("beside", "within"),
        source="validation scenes of the embedded world",
    )
    radius: float = knob(
        0.0,
        "Tokens around a point that are clicks as well; larger: the click reaches more and may cross edges.",
        low=0,
        high=64,
        source="validation scenes of the embedded world",
    )
    colours: float = knob(
        0.5,
        "How much the colours of pixels count where a click reaches; larger: masks keep closer to what has the colours of the clicks' "
        "label. 0: the tokens alone.",
        low=0,
        high=10,
        source="validation scenes of the embedded world",
    )
    absorb: bool = knob(default=True, doc="Walks end at clicks. Off: clicks speak through visual words alone.")
    visual: str = knob(
        "auto",
        "Visual words, the mean token vector under a label's clicks as one more of its strings: where the label source can, always, never.",
        choices=("auto", "on", "off"),
    )
    local: bool = knob(default=True, doc="A visual word speaks as far as a walk reaches its clicks. Off: all over the image.")
    margin: float = knob(
        0.1,
        "How far above the best string under the clicks the visual word's cosine is set; larger: it takes more of what looks like them.",
        low=-1,
        high=1,
        source="validation scenes of the embedded world",
    )
    tolerance: float = knob(1e-3, "Largest accepted L1 error of a row of P; smaller: more steps a click.", above=0)


def parted(settings: Mapping[str, Any] | None) -> tuple[Options, dict[str, Any]]:
    """Knobs of clicks, and the settings that are left for the recipe.

    Raises:
        OptionError: a knob that does not exist or is out of range.
    """
    own = {name.removeprefix("clicks."): value for name, value in (settings or {}).items() if name.startswith("clicks.")}
    rest = {name: value for name, value in (settings or {}).items() if not name.startswith("clicks.")}
    return checked(Options, own, "clicks"), rest
