"""The contracts: what a module of each kind must define. `nerveseg.registry.load` verifies them.

A stage is a module, one file. Read the contract of its kind, copy the smallest file that is there, and change it: nothing else has to be
edited. `docs/adding-one.md` builds one of each. The pipeline, in the paper's letters::

    image ─ LabelSource ─► scores ─ Calibration ─► G ─┐
       └───── GraphSource ─► queries, keys ─ Kernel ─► S ┴ Walk ─► P ─ Refiner, Rule ─► label ids ─ Writer ─► files

Members without a default are required. Those after *Optional* may be left out; the text says what then holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from nerveseg.image import LoadedImage
    from nerveseg.labels.base import Features, Networks, Scores, Words
    from nerveseg.masks.rules.base import ClassStats
    from nerveseg.runs.worker import Make, Outcome
    from nerveseg.transition import Heads
    from nerveseg.walk import StepMatrix, Walk

__all__ = [
    "CONTRACTS",
    "OPTIONAL",
    "Ablation",
    "Backbone",
    "Calibration",
    "DataSource",
    "Engine",
    "GraphSource",
    "Kernel",
    "LabelSource",
    "Refiner",
    "Rule",
    "Solver",
    "Writer",
    "missing",
]


class LabelSource(Protocol):
    """Words → a score for every token and label (``labels.name``; kind ``labels``).

    Optional: ``draws_noise`` (False), whether `encode` takes ``noise`` by name and the knobs hold its ``seed``.
    """

    Options: type
    """Frozen dataclass of knobs, each made with `nerveseg.registry.knob`."""
    needs: tuple[str, ...]
    """Backbones that it runs, as recipes name them in ``[weights]``."""
    embeds: str | None
    """Backbone whose text tower embeds the words; None: the source reads strings, or no words."""
    text_conditioned: bool
    """Whether words go into the network, so that new words take a new pass."""
    decode_options: tuple[str, ...]
    """Knobs that `score` reads and `encode` does not: they may change without a new pass."""

    def look(self, image: LoadedImage, networks: Networks, options: Any) -> Iterator[Any]:
        """Run the networks over the image, or over windows of it, one view at a time."""
        ...

    def encode(self, views: Iterable[Any], networks: Networks, options: Any) -> Features:
        """Keep of the views what `score` needs."""
        ...

    def score(self, features: Features, words: Words, networks: Networks, options: Any) -> Scores:
        """Class scores (n, C), not negative, on the source's own grid; larger is more certain."""
        ...


class Backbone(Protocol):
    """A checkpoint's folder → a network (kind ``backbones``: by entry point; those that ship stand in `nerveseg.backbones.KINDS`).

    Whatever `load` gives is handed to stages that name it in ``needs``. One that embeds words has ``text(strings)``, unit rows;
    ``unknown(string)``, whether it was trained on no such word; and ``truncated(string)``, whether it is cut.
    """

    def load(self, folder: Path, *, device: Any, dtype: Any) -> Any:
        """Read the network, frozen, without the internet."""
        ...


class Calibration(Protocol):
    """G → G (kind ``calibrations``)."""

    Options: type

    def calibrate(self, G: Tensor, options: Any, *, rest: bool = True) -> Tensor:
        """Rows (n, k) that sum to 1 → rows that do; ``rest`` says whether the last column is the background."""
        ...


class GraphSource(Protocol):
    """An image → the queries and keys of self-attention heads (``graph.name``; kind ``graphs``)."""

    Options: type
    needs: tuple[str, ...]

    def heads(self, image: LoadedImage, networks: Mapping[str, Any], options: Any, *, noise: Tensor | None = None) -> Heads:
        """All heads of one width, (H, n, d) each, on one grid of tokens."""
        ...


class Kernel(Protocol):
    """Queries and keys → affinities, not negative (equations 8, 15 to 19; kind ``kernels``).

    One of two ways, beside `prepare`: ``rows(products, options)``, from inner products to affinities; or ``features(A, B, options)``, a
    feature map, for kernels whose matrix is never written out.
    """

    Options: type
    sharpness: str | None
    """The knob that `transition.neighbours` solves for; None: the kernel has none."""
    low_rank: bool
    """Whether it has ``features``, and so a thin pair in the place of a matrix."""
    stochastic: bool
    """Whether rows can be made to sum to 1; walks certify a bound for no others."""

    def prepare(self, queries: Tensor, keys: Tensor, grid: tuple[int, int], options: Any) -> tuple[Tensor, Tensor]:
        """Queries and keys as the kernel compares them: centred, of unit length, …"""
        ...


class Solver(Protocol):
    """S and G → P (equation 3; ``walk.name``; kind ``walks``)."""

    Options: type
    needs: str
    """``S``: one transition matrix. ``heads``: the heads themselves, for walks that build their own."""

    def solve(self, S: StepMatrix, G: Tensor, options: Any) -> Walk:
        """The labels after the walk, with the outcome and the bound that was reached."""
        ...


class Rule(Protocol):
    """Maps at the image's size → what the arg max is taken of (``masks.name``; kind ``rules``).

    Optional: ``line(stats, extremes, options)``, the rule as value = gain · map + shift for each class, which lets big images be decided
    in patches; ``threshold(options)`` (none), below which a pixel is background; ``divides(options)`` (True), whether shares of one pixel
    are compared; ``least(options)`` (0), the share of the labelled pixels that a label needs to stay; ``score_grid(options)`` ("walk"), the
    grid that class scores are looked for on, or "source", the label source's own; ``through(options)`` (0), the side of a square that the
    maps are resized to before the image's size.
    """

    Options: type

    def transform(self, maps: Tensor, stats: ClassStats, options: Any) -> Tensor:
        """(c, H, W) → (c, H, W)."""
        ...


class Refiner(Protocol):
    """P at the image's size → P with better edges (``refiner.name``; kind ``refiners``)."""

    Options: type
    on_logits: bool
    """Whether it refines logits before their softmax, where the label source has them, and not shares."""
    own_size: bool
    """Whether it works at the size of the logits, on the image that the network saw, and not at the image's."""

    def refine(self, P: Tensor, image: LoadedImage, options: Any) -> Tensor:
        """(K, H, W) → (K, H, W)."""
        ...


class Writer(Protocol):
    """A result → a file, or many results → one collection (kind ``writers``).

    One of two ways: ``write(segmentation, path, options) -> tuple[Path, ...]``, a file of its own for each result (and
    ``files(path, options)`` where that makes more than the path); or ``part(segmentation, folder, stem, options) -> dict`` for each
    result and ``finish(parts, folder, options) -> tuple[Path, ...]`` for the folder. Optional: ``read``, where the format is exact.
    """

    Options: type
    suffix: str
    """Ending of the file, as ``.png``; empty for collections."""

    def holds(self, labels: int) -> bool:
        """Whether the format has room for so many labels."""
        ...


class DataSource(Protocol):
    """A benchmark, or a folder of yours, as images with masks (kind ``datasets``).

    Either ``opened(root, split, protocol, class_names)``, which makes the data set; or ``count``, the number of classes,
    ``values(protocol)``, mask value → class id, and ``find(root, split, protocol)``, its items. Optional: ``convert(job)`` and
    ``unpacked(root, split)`` for `nerveseg datasets prepare`; ``published(protocol)``, images a split; ``about(protocol)``; ``grey``
    and ``voc``, how masks are stored (False).
    """

    title: str
    splits: tuple[str, ...]
    """Names; the first is the one that scores are published on. Empty: any."""
    protocols: tuple[str, ...]
    background: bool
    """Whether one of the classes is the background."""
    archives: tuple[Any, ...]
    """What is downloaded; empty: nothing is."""


class Engine(Protocol):
    """Where the items of a long job are worked on (``--engine``; kind ``engines``)."""

    Options: type

    def execute(
        self, make: Make, items: tuple[str, ...], *, workers: int, prefetch: int, options: Any, stop: Callable[[], bool]
    ) -> Iterator[Outcome]:
        """Do each item once, in any order, and give what came of it as it comes."""
        ...


class Ablation(Protocol):
    """One claim of the paper, and the variants that test it (kind ``ablations``). Optional: ``axis``, for a curve."""

    title: str
    claim: str
    reference: str
    """Name of the variant that the others are compared with."""

    def variants(self, given: Any) -> tuple[Any, ...]:
        """What is measured."""
        ...


CONTRACTS: Mapping[str, type] = {
    "labels": LabelSource,
    "calibrations": Calibration,
    "graphs": GraphSource,
    "kernels": Kernel,
    "walks": Solver,
    "rules": Rule,
    "refiners": Refiner,
    "writers": Writer,
    "datasets": DataSource,
    "engines": Engine,
    "ablations": Ablation,
    "backbones": Backbone,
}
"""Kind → its contract."""

OPTIONAL: Mapping[str, Mapping[str, Any]] = {
    "labels": {"draws_noise": False},
    "rules": {"line": None, "threshold": None, "divides": None, "least": None, "score_grid": None, "through": None},
    "writers": {"read": None, "files": None, "write": None, "part": None, "finish": None},
    "datasets": {
        "opened": None,
        "count": None,
        "about": None,
        "published": None,
        "unpacked": None,
        "convert": None,
        "grey": False,
        "voc": False,
    },
    "ablations": {"axis": ""},
}
"""Kind → members that a module may leave out, and what `nerveseg.registry.load` then puts there, so that nobody has to ask."""

_EITHER: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "kernels": (("rows",), ("features",)),
    "writers": (("write",), ("part", "finish")),
    "datasets": (("opened",), ("count", "values", "find")),
}
"""Kind → groups of members, of which one must be there whole."""


def missing(kind: str, module: ModuleType | Any) -> tuple[str, ...]:
    """Members of a kind's contract that a module lacks, as a message lists them; empty where it keeps the contract.

    >>> from types import SimpleNamespace
    >>> missing("calibrations", SimpleNamespace(Options=object))
    ('calibrate',)
    >>> missing("writers", SimpleNamespace(Options=object, suffix=".x", holds=None, part=None))
    ('write, or part and finish',)
    """
    contract = CONTRACTS.get(kind)
    required = [] if contract is None else [*contract.__annotations__, *(name for name in vars(contract) if not name.startswith("_"))]
    lacking = [name for name in dict.fromkeys(required) if not hasattr(module, name)]
    groups = _EITHER.get(kind, ())
    if groups and not any(all(hasattr(module, name) for name in group) for group in groups):
        lacking.append(", or ".join(" and ".join(group) for group in groups))
    return tuple(lacking)
