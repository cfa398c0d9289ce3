"""The score of the embedded pair: decision rules × systems, every choice made on validation scenes, the table read on test scenes once.

Labels of a scene are the names in it and three that are not. mIoU is the data set's: intersections and unions are summed over all scenes
first. Systems: G alone; the local walk (β = 0); one global step (β = 1, S G); the walk with mean heads; NERVE. Each system gets its best
knobs of one grid, for rows of G as they come and for calibrated rows, and under these each rule gets its best knobs. The grid is walked in
two rounds: sharpness, head peakedness and local power first, then α, β and the rules.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nerveseg import registry, transition
from nerveseg.image import load_image
from nerveseg.masks.decide import decide
from nerveseg.reprs import brief
from nerveseg.segmenter import Encoding, Segmenter
from nerveseg.synthetic import scenes
from nerveseg.synthetic.names import NAMES
from nerveseg.transition import Transition
from nerveseg.walk import infinite
from nerveseg.words.vocabulary import Vocabulary
from nerveseg.writers.base import replacing

__all__ = [
    "RULES",
    "SYSTEMS",
    "Counts",
    "Row",
    "Rule",
    "Walking",
    "choose",
    "counted",
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
_CHUNK = 10  # scenes that are measured, and kept, together
_TOLERANCE = 1e-2  # certified L1 error of a row: what is left moves no label that is not a tie
_CALIBRATIONS = ((2, 0, 4), (1, 0.5, 0))
_ALPHAS, _BETAS = (0.95, 0.98, 0.99), (0.1, 0.3)
_NEIGHBOURS, _PEAKEDNESS, _POWERS = (0.003, 0.01, 0.03), (30.0, 100.0, 300.0), (8.0, 24.0, 64.0)

Pair = tuple["Walking", "Rule"]


@dataclass(frozen=True)
class Walking:
    """One way from G to P: which system, and its knobs; None where a system has no such knob."""

    system: str
    alpha: float | None = None
    beta: float | None = None
    neighbours: float | None = None
    peakedness: float | None = None
    local_power: float | None = None


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

    __repr__ = brief


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


def first_round() -> list[Pair]:
    """Sharpness, peakedness and local power, at one α and β, with a plain arg max."""
    plain = rules()[0]
    grid = [(nu, c, _POWERS[1]) for nu in _NEIGHBOURS for c in _PEAKEDNESS] + [(_NEIGHBOURS[0], _PEAKEDNESS[1], p) for p in _POWERS]
    return [(Walking("NERVE", _ALPHAS[1], _BETAS[1], nu, c, p), plain) for nu, c, p in dict.fromkeys(grid)]


def second_round(first: Walking) -> list[Pair]:
    """Every system with every rule, at the sharpness and peakedness of the first round; the local walk keeps every local power."""
    nu, c, power = first.neighbours, first.peakedness, first.local_power
    grid = [Walking("G alone"), Walking("global step", None, 1.0, nu, c, power)]
    grid += [Walking("local walk", alpha, 0.0, None, c, p) for alpha in _ALPHAS for p in _POWERS]
    grid += [Walking("mean heads", alpha, beta, nu, None, power) for alpha in _ALPHAS for beta in _BETAS]
    grid += [Walking("NERVE", alpha, beta, nu, c, power) for alpha in _ALPHAS for beta in _BETAS]
    return [(walking, rule) for walking in grid for rule in rules()]


def measure(segmenter: Segmenter, split: str, indices: Iterable[int], pairs: Sequence[Pair]) -> dict[Pair, Counts]:
    """Score pairs of walking and rule on scenes of a split; the networks run once a scene, S once for all that share it."""
    found: dict[Pair, list[NDArray[np.int64]]] = {pair: [] for pair in pairs}
    for index in indices:
        scene = scenes.render(split, index)
        labels = labels_of(scene, split, index)
        encoding = segmenter.encode(load_image(scene.image.copy()))
        for pair, ids in _decided(segmenter, encoding, labels, pairs):
            place = np.array([NAMES.index(name) for name in labels] + [len(NAMES)])
            found[pair].append(counted(place[ids.numpy()], scene.mask))
    return {pair: Counts(*np.moveaxis(np.stack(rows), 1, 0)) for pair, rows in found.items()}


def miou(counts: Counts, weights: NDArray[np.float64] | None = None) -> float:
    """Data-set mIoU in percent over the names that are true or guessed anywhere; ``weights``: how often each scene counts."""
    w = np.ones(len(counts.both)) if weights is None else weights
    both, guessed, true = (w @ part for part in (counts.both, counts.guessed, counts.true))
    union = guessed + true - both
    return float(100 * np.mean(both[union > 0] / union[union > 0]))


def interval(one: Counts, other: Counts | None = None, draws: int = _DRAWS) -> tuple[float, float]:
    """95 % bootstrap interval over scenes, of mIoU(one), or, paired, of mIoU(one) − mIoU(other)."""
    rng = np.random.default_rng(0)
    count = len(one.both)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    found = [miou(one, w) - (0.0 if other is None else miou(other, w)) for w in weights]
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)


def choose(counts: Mapping[Pair, Counts]) -> list[Row]:
    """The best walking of every system for plain and for calibrated rows, and under it the best knobs of every rule."""
    scores = {pair: miou(count) for pair, count in counts.items()}
    kept: list[Row] = []
    for row in RULES:
        for system in SYSTEMS:
            family = [pair for pair in scores if pair[0].system == system and bool(pair[1].calibrated) == (row == RULES[-1])]
            if not family:
                continue
            walking = max(family, key=lambda pair: scores[pair])[0]
            walking_, rule = max((pair for pair in family if pair[0] == walking and pair[1].row == row), key=lambda pair: scores[pair])
            kept.append(Row(system, row, walking_, rule, scores[walking_, rule]))
    return kept


def run(
    recipe: str,
    out: Path,
    *,
    val: int = 60,
    test: int = 500,
    workers: int | None = None,
    said: Callable[[str, int], None] = lambda *_: None,
) -> str:
    """Choose on validation scenes, score on test scenes, and write ``choices.json`` and ``score.md`` into ``out``.

    Args:
        recipe: with a graph and a kernel whose sharpness ``neighbours`` can solve; its label side and its layers are taken as they are.
        out: a folder; scenes that are measured in it already are not measured again, so a run that was stopped goes on.
        val: validation scenes, half of them in the first round.
        test: test scenes.
        workers: processes of one thread each; None takes as many as there are cores.
        said: called with the round's name and how many scenes were measured, for a progress bar.

    Returns:
        The table, in Markdown.
    """
    count = workers or os.cpu_count() or 1
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        rounds = _Rounds(pool, recipe, out, said)
        first = rounds.measure("first round", "val", val // 2, first_round())
        middle = max(first, key=lambda pair: miou(first[pair]))[0]
        chosen = choose(rounds.measure("second round", "val", val, second_round(middle)))
        with replacing(out / "choices.json") as (draft,):
            draft.write_text(json.dumps([dataclasses.asdict(row) for row in chosen], indent=1) + "\n")
        tested = rounds.measure("test", "test", test, [(row.walking, row.decision) for row in chosen])
    text = table(chosen, tested)
    with replacing(out / "score.md") as (draft,):
        draft.write_text(text)
    return text


@dataclass(frozen=True)
class _Rounds:
    """Chunks of scenes through the pool, each kept in a file of its own, named by what was measured."""

    pool: ProcessPoolExecutor
    recipe: str
    out: Path
    said: Callable[[str, int], None]

    def measure(self, name: str, split: str, count: int, pairs: Sequence[Pair]) -> dict[Pair, Counts]:
        asked = hashlib.sha256(repr((split, pairs)).encode()).hexdigest()[:12]
        folder = self.out / f"{name.replace(' ', '-')}-{asked}"
        folder.mkdir(parents=True, exist_ok=True)
        starts = range(0, count, _CHUNK)
        jobs = {
            self.pool.submit(
                _chunk, self.recipe, folder / f"{start:05d}.npz", split, range(start, min(start + _CHUNK, count)), pairs
            ): start
            for start in starts
        }
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            self.said(name, min(done * _CHUNK, count))
        parts = [np.load(folder / f"{start:05d}.npz")["counts"] for start in starts]
        joined = np.concatenate(parts, axis=2)
        return {pair: Counts(*joined[place]) for place, pair in enumerate(pairs)}


@cache
def _segmenter(recipe: str) -> Segmenter:
    """Load the networks once a process."""
    torch.set_num_threads(1)
    return Segmenter.from_pretrained(recipe, device="cpu")


def _chunk(recipe: str, path: Path, split: str, indices: range, pairs: Sequence[Pair]) -> None:
    if path.exists():
        return
    counts = measure(_segmenter(recipe), split, indices, pairs)
    temporary = path.with_suffix(".part.npz")
    np.savez_compressed(temporary, counts=np.stack([np.stack([c.both, c.guessed, c.true]) for c in (counts[pair] for pair in pairs)]))
    temporary.replace(path)


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
    letters = {"alpha": "α", "beta": "β", "neighbours": "ν", "peakedness": "c", "local_power": "p"}
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
                encoding.image.size,
                background=rule.stage == "floor",
                rule=rule.stage,
                options=registry.options(stage.Options, dict(rule.knobs), rule.stage),
            ),
        )


def _rows(segmenter: Segmenter, encoding: Encoding, vocabulary: Vocabulary, calibrated: Any) -> Tensor:
    none = {"calibration.name": "none", "walk.name": "none"}
    knobs = {} if calibrated is None else {"calibration.name": "z_score", **{f"calibration.{k}": float(v) for k, v in calibrated}}
    recipe = segmenter.recipe.changed({**none, **knobs})
    return segmenter.label(encoding, vocabulary, recipe=recipe).G


def _walk(segmenter: Segmenter, encoding: Encoding, G: Tensor, walking: Walking, calibrated: Any, graphs: dict[Any, Transition]) -> Tensor:
    if walking.system == "G alone" or encoding.heads is None:
        return G
    weights = "mean" if walking.system == "mean heads" else "entropy"
    beta = walking.beta or 0.0
    knobs = {"neighbours": walking.neighbours, "peakedness": walking.peakedness, "local_power": walking.local_power}
    given = {name: value for name, value in knobs.items() if value is not None}
    key = (calibrated if weights == "entropy" else None, weights, beta > 0, *given.items())
    if key not in graphs:
        recipe = segmenter.recipe
        graphs[key] = transition.build(
            encoding.heads,
            G,
            options=recipe.transition,
            kernel_options=recipe.kernel.options,
            weights=weights,
            beta=min(beta, 0.5),
            **given,
        )
    S = dataclasses.replace(graphs[key], beta=beta)
    if walking.system == "global step":
        return S @ G
    return infinite(S, G, alpha=walking.alpha or 0.0, tolerance=_TOLERANCE).probabilities


def counted(guess: NDArray[np.int64], truth: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(3, names): pixels where guess and truth agree, pixels guessed, pixels that are it; ids past the names are guesses of nothing."""
    size = len(NAMES) + 1
    table = np.bincount(truth.astype(np.int64).ravel() * size + guess.ravel(), minlength=size * size).reshape(size, size)[: len(NAMES)]
    return np.stack([np.diagonal(table)[: len(NAMES)], table.sum(0)[: len(NAMES)], table.sum(1)])
