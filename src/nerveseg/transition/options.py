"""Every knob of the transition that does not belong to one kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nerveseg.registry import knob

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """Knobs of `nerveseg.transition.build`; those of one kernel stand in its file."""

    kernel: str = knob(
        "exp", "Affinity between all pairs of tokens: a name of the registry kind 'kernels'.", source="(8); measured on the embedded world"
    )
    pairing: str = knob(
        "qk", "What is compared: query with key (the paper), or keys or queries among themselves.", choices=("qk", "kk", "qq")
    )
    beta: float = knob(0.5, "Share of the global graph; larger: farther tokens count more, 0 is the local graph alone.", low=0, high=1)
    peakedness: float = knob(
        10.0, "c: larger gives certain heads more weight; 0 is the plain mean, inf the surest head.", low=0, high=math.inf, source="(14)"
    )
    weights: str = knob(
        "entropy", "How heads are weighed: by (12-14), all alike, or the most certain one alone.", choices=("entropy", "mean", "best")
    )
    stay: float = knob(
        1.0, "ε: weight of staying in place in the local graph; larger: slower walk along the grid.", low=1e-6, high=1e6, source="(9)"
    )
    local_power: float = knob(
        1.0, "Exponent on the local cosines; larger: sharper edges, 1 is the paper's.", low=1e-6, high=1e6, source="(9)"
    )
    neighbours: float | None = knob(
        None,
        "ν: mean row perplexity as a fraction of n, solved per head; smaller: sharper.",
        above=0,
        high=1,
        source="method, unit-free sharpness",
    )
    keep: int | None = knob(None, "m: entries kept in each global row, renormalised; smaller: sharper and less memory.", low=1)
    entropy_share: float = knob(
        1 / 16, "Share of the rows that (12-13) are estimated on, at least 256 rows; 1 takes all of them.", above=0, high=1
    )
    memory: float = knob(1024.0, "MiB that the folded n × n matrix may take; beyond it rows are recomputed in each step.", low=0)
