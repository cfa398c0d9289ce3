"""Batch the networks over several images: collect each stage's first network call, batch calls of equal shape, cache the results.

Stages need no code for it: a stage calls the network for one image, and `PassCache` returns the cached result. Only the first call of a
stage can be collected in advance; later ones (windows of the same image) run when they are made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from nerveseg.backbones.pass_cache import PassCache
from nerveseg.image.load_many import map_threads

__all__ = ["answered", "foreseen"]

Question = tuple[str, str, tuple[Any, ...], dict[str, Any]]
"""Network, pass, its arguments."""


class _Asked(Exception):
    """Ends a stage at its first pass, and says which; None: one that cannot be put together."""

    def __init__(self, question: Question | None) -> None:
        super().__init__(question)
        self.question = question


class _Listener:
    """A network that makes no pass: it says what was asked of it."""

    def __init__(self, kind: str, network: Any) -> None:
        self._kind, self._network = kind, network

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return type(self._network)

    def __getattr__(self, name: str) -> Any:
        if not hasattr(self._network, "together"):
            raise _Asked(None)
        if name not in self._network.passes:
            return getattr(self._network, name)

        def ask(*given: Any, **named: Any) -> Any:
            raise _Asked((self._kind, name, given, named))

        return ask


def answered(
    networks: Mapping[str, Any], items: Sequence[Any], stages: Sequence[Callable[[Any, Mapping[str, Any]], Any]]
) -> list[dict[str, Any]]:
    """Make the first pass of every stage for all items, those of one size together.

    Args:
        networks: kind → backbone. One that can put passes together names its ``passes``, and has ``together(pass, questions)``, which gives
            an answer to each (arguments, knobs), or None for a pass that it makes one by one. A stage that turns to one that has not is
            not foreseen.
        items: images.
        stages: functions of an item and the networks, safe beside each other up to their first pass.

    Returns:
        For each item the networks, with the answers in memory.
    """
    ready = [{name: PassCache(network) for name, network in networks.items()} for _ in items]
    groups: dict[Any, list[tuple[int, Question]]] = {}
    # A stage resizes its image before it asks, which takes longer than all else here: several images at a time.
    for place, questions in enumerate(map_threads(lambda item: [_question(networks, item, stage) for stage in stages], items)):
        for question in questions:
            if question is not None:
                groups.setdefault(_key(question), []).append((place, question))
    for asked in groups.values():
        kind, name = asked[0][1][:2]
        results = networks[kind].together(name, [(given, named) for _, (_, _, given, named) in asked]) if len(asked) > 1 else None
        for (place, (_, _, given, named)), result in zip(asked, results or (), strict=bool(results)):
            ready[place][kind].remember(name, given, named, result)
    return ready


@contextlib.contextmanager
def foreseen(networks: Mapping[str, Any], item: Any, stage: Callable[[Any, Mapping[str, Any]], Any]) -> Iterator[None]:
    """Ask a stage in a thread, beside what the block does, what it will ask of a network: its image is resized by then.

    Args:
        networks: kind → backbone.
        item: an image that keeps what is made of it.
        stage: as in `answered`. What it raises is not heard here: it will raise it again.
    """
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_question, networks, item, stage)
        yield


def _question(networks: Mapping[str, Any], item: Any, stage: Callable[[Any, Mapping[str, Any]], Any]) -> Question | None:
    try:
        stage(item, {kind: _Listener(kind, network) for kind, network in networks.items()})
    except _Asked as asked:
        return asked.question
    return None


def _key(question: Question) -> Any:
    kind, name, given, named = question
    knobs = tuple(sorted((knob, repr(value)) for knob, value in named.items() if knob not in ("seed", "noise")))
    return kind, name, tuple(tuple(value.shape) for value in given), knobs
