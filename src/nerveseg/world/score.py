"""The score of the embedded pair: decision rules × systems, every choice made on validation scenes, the table read on test scenes once.

Choices are made in two rounds: sharpness and local power first, with the walk in the middle of its grid; then α, β and the rule's knobs.

Labels of a scene are the names in it and three that are not. mIoU is the data set's: intersections and unions are summed over all scenes
first. Systems: G alone; the local walk (β = 0); one global step (β = 1, S G); the walk with mean heads; NERVE. Each system gets, rule by
rule, its best knobs of the same grid, so that no comparison is between a tuned and an untuned row.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nerveseg import registry, transition
from nerveseg.masks.decide import decide
from nerveseg.picture import load
from nerveseg.segmenter import Encoding, Segmenter
from nerveseg.transition import Transition
from nerveseg.walk import infinite
from nerveseg.words.vocabulary import Vocabulary
from nerveseg.world import scenes
from nerveseg.world.names import NAMES

__all__ = [
    "ABSENT",
    "RULES",
    "SYSTEMS",
    "Counts",
    "Row",
    "Rule",
    "Walking",
    "choose",
    "first_round",
    "interval",
    "labels_of",
    "measure",
    "miou",
    "rules",
    "run",
    "second_round",
    "table",
]

ABSENT = 3
SYSTEMS = ("G alone", "local walk", "global step", "mean heads", "NERVE")
RULES = ("argmax", "floor", "class-max", "z-score", "z-score × class score", "calibrated, argmax")
_DRAWS = 2000
_CALIBRATIONS = ((1, 0, 2), (2, 0, 4), (1, 0.5, 0))
_ALPHAS, _BETAS = (0.7, 0.8, 0.9, 0.95), (0.3, 0.6, 0.9)
_NEIGHBOURS, _POWERS = (0.01, 0.02, 0.04, 0.08), (1.0, 4.0, 16.0)


@dataclass(frozen=True)
class Walking:
    """One way from G to P: which system, and its knobs; None where a system has no such knob."""

    system: str
    alpha: float | None = None
    beta: float | None = None
    neighbours: float | None = None
    local_power: float = 1.0


@dataclass(frozen=True)
class Rule:
    """One way from P to ids: its row in the table, whether the rows of G are calibrated first, and the rule's file and knobs."""

    row: str
    stage: str
    knobs: tuple[tuple[str, float], ...] = ()
    calibrated: tuple[tuple[str, float], ...] | None = None


@dataclass(frozen=True, eq=False)
class Counts:
    """Pixels by name, scene by scene: (scenes, names) each."""

    both: NDArray[np.int64]
    guessed: NDArray[np.int64]
    true: NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """One cell of the table: what was chosen on validation scenes, and what it scores."""

    system: str
    rule: str
    walking: Walking
    decision: Rule
    miou: float


def labels_of(scene: scenes.Scene, split: str, index: int) -> list[str]:
    """The names in a scene and `ABSENT` that are not, in an order that does not tell them apart."""
    rng = np.random.default_rng(np.random.SeedSequence(7, spawn_key=(scenes.SPLITS.index(split), index)))
    others = [name for name in NAMES if name not in scene.names]
    mixed = [*scene.names, *(others[i] for i in rng.choice(len(others), ABSENT, replace=False))]
    return [mixed[i] for i in rng.permutation(len(mixed))]


def first_round(neighbours: Sequence[float], powers: Sequence[float]) -> list[tuple[Walking, Rule]]:
    """Sharpness of the kernel and of the local graph, NERVE in the middle of its other knobs, calibrated rows."""
    calibrated = [rule for rule in rules() if rule.calibrated]
    return [(Walking("NERVE", 0.9, 0.6, s, p), rule) for s in neighbours for p in powers for rule in calibrated]


def second_round(
    alphas: Sequence[float], betas: Sequence[float], neighbours: float, power: float, powers: Sequence[float]
) -> list[tuple[Walking, Rule]]:
    """Every system with every rule; the local walk is given every local power, since the first round chose for NERVE."""
    grid = [Walking("G alone"), Walking("global step", None, 1.0, neighbours)]
    grid += [Walking("local walk", a, 0.0, neighbours, p) for a in alphas for p in powers]
    grid += [Walking(system, a, b, neighbours, power) for system in ("mean heads", "NERVE") for a in alphas for b in betas]
    return [(walking, rule) for walking in grid for rule in rules()]


def rules() -> list[Rule]:
    """The grid of decision rules."""
    calibrations = [(("gain", gain), ("score_power", power), ("log_score", log)) for gain, power, log in _CALIBRATIONS]
    return [
        Rule("argmax", "argmax"),
        *(Rule("floor", "floor", (("floor", floor),)) for floor in (0.1, 0.3)),
        Rule("class-max", "class_max"),
        Rule("z-score", "z_score", (("score_power", 0.0),)),
        *(Rule("z-score × class score", "z_score", (("score_power", power),)) for power in (0.5, 1.0)),
        *(Rule("calibrated, argmax", "argmax", (), calibrated) for calibrated in calibrations),
    ]


def measure(
    segmenter: Segmenter,
    split: str,
    indices: Iterable[int],
    pairs: Sequence[tuple[Walking, Rule]],
    said: Callable[[int], None] = lambda _: None,
) -> dict[tuple[Walking, Rule], Counts]:
    """Score pairs of walking and rule on scenes of a split; the networks run once a scene, S once for all that share it."""
    found: dict[tuple[Walking, Rule], list[NDArray[np.int64]]] = {pair: [] for pair in pairs}
    for index in indices:
        scene = scenes.render(split, index)
        labels = labels_of(scene, split, index)
        encoding = segmenter.encode(load(scene.picture.copy()))
        for pair, ids in _decided(segmenter, encoding, labels, pairs):
            place = np.array([NAMES.index(name) for name in labels] + [len(NAMES)])
            found[pair].append(_count(place[ids.numpy()], scene.mask))
        said(index)
    return {pair: Counts(*np.moveaxis(np.stack(rows), 1, 0)) for pair, rows in found.items()}


def miou(counts: Counts, weights: NDArray[np.float64] | None = None) -> float:
    """Data-set mIoU in percent over the names that are true or guessed anywhere; ``weights``: how often each scene counts."""
    w = np.ones(len(counts.both)) if weights is None else weights
    both, guessed, true = (w @ part for part in (counts.both, counts.guessed, counts.true))
    union = guessed + true - both
    return float(100 * np.mean(both[union > 0] / union[union > 0]))


def interval(one: Counts, other: Counts, draws: int = _DRAWS) -> tuple[float, float]:
    """Paired 95 % bootstrap interval of mIoU(one) − mIoU(other) over scenes."""
    rng = np.random.default_rng(0)
    count = len(one.both)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    differences = [miou(one, w) - miou(other, w) for w in weights]
    low, high = np.percentile(differences, (2.5, 97.5))
    return float(low), float(high)


def choose(counts: Mapping[tuple[Walking, Rule], Counts]) -> list[Row]:
    """The best knobs of every system and rule."""
    best: dict[tuple[str, str], Row] = {}
    for (walking, rule), count in counts.items():
        row = Row(walking.system, rule.row, walking, rule, miou(count))
        key = (row.system, row.rule)
        if key not in best or row.miou > best[key].miou:
            best[key] = row
    return [best[system, rule] for rule in RULES for system in SYSTEMS if (system, rule) in best]


def run(segmenter: Segmenter, out: Path, *, val: int = 100, test: int = 500, said: Callable[[str, int], None] = lambda *_: None) -> str:
    """Choose on validation scenes, score on test scenes, and write ``choices.json``, ``counts.npz`` and ``score.md`` into ``out``.

    Args:
        segmenter: of a recipe with a graph and a kernel whose sharpness ``neighbours`` can solve.
        out: a folder; what an interrupted run chose is not chosen again.
        val: validation scenes.
        test: test scenes.
        said: called with the round's name and the scene's number, for a progress bar.

    Returns:
        The table, in Markdown.
    """
    out.mkdir(parents=True, exist_ok=True)
    first = choose(measure(segmenter, "val", range(val // 2), first_round(_NEIGHBOURS, _POWERS), lambda i: said("first round", i)))[0]
    pairs = second_round(_ALPHAS, _BETAS, first.walking.neighbours or 0.0, first.walking.local_power, _POWERS)
    chosen = choose(measure(segmenter, "val", range(val), pairs, lambda i: said("second round", i)))
    (out / "choices.json").write_text(json.dumps([dataclasses.asdict(row) for row in chosen], indent=1) + "\n")
    tested = measure(segmenter, "test", range(test), [(row.walking, row.decision) for row in chosen], lambda i: said("test", i))
    np.savez_compressed(
        out / "counts.npz",
        **{f"{row.system}|{row.rule}": np.stack(dataclasses.astuple(tested[row.walking, row.decision])) for row in chosen},
    )
    text = table(chosen, tested)
    (out / "score.md").write_text(text)
    return text


def table(chosen: Sequence[Row], tested: Mapping[tuple[Walking, Rule], Counts]) -> str:
    """The score in Markdown: rule × system, then NERVE beside every control, each at its best rule on validation scenes."""
    cells = {(row.system, row.rule): tested[row.walking, row.decision] for row in chosen}
    lines = ["| decision rule | " + " | ".join(SYSTEMS) + " |", "|---|" + "---|" * len(SYSTEMS)]
    lines += [f"| {rule} | " + " | ".join(f"{miou(cells[system, rule]):.1f}" for system in SYSTEMS) + " |" for rule in RULES]
    best = {system: max((row for row in chosen if row.system == system), key=lambda row: row.miou) for system in SYSTEMS}
    mine = cells["NERVE", best["NERVE"].rule]
    lines += [
        "",
        "| system | best rule (validation) | knobs | test mIoU | NERVE − it, 95 % | share of its error removed |",
        "|---|---|---|---|---|---|",
    ]
    for system, row in best.items():
        counts = cells[system, row.rule]
        low, high = interval(mine, counts)
        score = miou(counts)
        gain = f"{miou(mine) - score:+.1f} [{low:+.1f}, {high:+.1f}]" if system != "NERVE" else "–"
        removed = f"{100 * (miou(mine) - score) / (100 - score):.0f} %" if system != "NERVE" else "–"
        lines.append(f"| {system} | {row.rule} | {_knobs(row)} | {score:.1f} | {gain} | {removed} |")
    return "\n".join(lines) + "\n"


def _knobs(row: Row) -> str:
    letters = {"alpha": "α", "beta": "β", "neighbours": "ν", "local_power": "p"}
    walk = [f"{letters[k]} {v:g}" for k, v in dataclasses.asdict(row.walking).items() if k in letters and v is not None]
    rule = [f"{k} {v:g}" for k, v in (*row.decision.knobs, *(row.decision.calibrated or ()))]
    return ", ".join([*(walk if row.system != "G alone" else []), *rule]) or "–"


def _decided(
    segmenter: Segmenter, encoding: Encoding, labels: list[str], pairs: Sequence[tuple[Walking, Rule]]
) -> Iterable[tuple[tuple[Walking, Rule], Tensor]]:
    vocabulary = Vocabulary.parse(labels)
    rows: dict[Any, Tensor] = {}
    graphs: dict[Any, Transition] = {}
    walked: dict[Any, Tensor] = {}
    for walking, rule in pairs:
        if rule.calibrated not in rows:
            rows[rule.calibrated] = _rows(segmenter, encoding, vocabulary, rule.calibrated)
        G = rows[rule.calibrated]
        key = (walking, rule.calibrated)
        if key not in walked:
            walked[key] = _walk(segmenter, encoding, G, walking, rule.calibrated, graphs)
        grid = encoding.heads.grid if encoding.heads else encoding.features.grid
        stage = registry.load("rules", rule.stage)
        maps = [columns.T.unflatten(1, grid) for columns in (walked[key], G)]
        yield (
            (walking, rule),
            decide(
                maps[0],
                maps[1],
                encoding.picture.size,
                background=rule.stage == "floor",
                rule=rule.stage,
                options=registry.options(stage.Options, dict(rule.knobs), rule.stage),
            ),
        )


def _rows(segmenter: Segmenter, encoding: Encoding, vocabulary: Vocabulary, calibrated: Any) -> Tensor:
    none = {"calibration.name": "none", "walk.solver": "none"}
    knobs = {} if calibrated is None else {"calibration.name": "z_score", **{f"calibration.{k}": float(v) for k, v in calibrated}}
    recipe = segmenter.recipe.changed({**none, **knobs})
    return segmenter.label(encoding, vocabulary, recipe=recipe).G


def _walk(segmenter: Segmenter, encoding: Encoding, G: Tensor, walking: Walking, calibrated: Any, graphs: dict[Any, Transition]) -> Tensor:
    if walking.system == "G alone" or encoding.heads is None:
        return G
    recipe = segmenter.recipe
    weights = "mean" if walking.system == "mean heads" else "entropy"
    key = (calibrated if weights == "entropy" else None, weights, walking.neighbours, walking.local_power)
    if key not in graphs:
        options = dataclasses.replace(
            recipe.transition, beta=0.5, weights=weights, local_power=walking.local_power, neighbours=walking.neighbours
        )
        graphs[key] = transition.build(encoding.heads, G, options=options, kernel_options=recipe.kernel.options)
    S = graphs[key]
    if walking.system == "global step":
        return dataclasses.replace(S, beta=1.0, stencil=None) @ G
    beta = walking.beta or 0.0
    S = dataclasses.replace(S, beta=beta, spread=S.spread if beta > 0 else None)
    return infinite(S, G, alpha=walking.alpha or 0.0, tolerance=1e-3).probabilities


def _count(guess: NDArray[np.int64], truth: NDArray[np.uint8]) -> NDArray[np.int64]:
    size = len(NAMES) + 1
    table = np.bincount(truth.astype(np.int64).ravel() * size + guess.ravel(), minlength=size * size).reshape(size, size)[: len(NAMES)]
    return np.stack([np.diagonal(table)[: len(NAMES)], table.sum(0)[: len(NAMES)], table.sum(1)])
