"""What the tests of clicks share."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nerveseg.clicks import Ground, wider
from nerveseg.labels.base import Words
from nerveseg.postprocess import Labelling
from nerveseg.words.vocabulary import Background, Vocabulary

ALPHA = 0.9


@pytest.fixture(scope="session")
def ground():
    """S, G and knobs → a ground without networks, of three labels and a background."""

    def made(S, G, options, **changes):
        inside = Labelling(G, S, None, S.grid)
        P = torch.linalg.solve(torch.eye(S.n, dtype=torch.float64) - ALPHA * S.to_dense().double(), (1 - ALPHA) * G.double()).float()
        nothing = torch.zeros(0, 0)
        plain = Ground(
            vocabulary=Vocabulary.parse(["a", "b", "c"]),
            background=Background(("rest",)),
            words=Words((), (), (), nothing, nothing),
            size=(50, 60),
            grid=S.grid,
            P=P,
            inside=inside,
            walk=None,
            S=S,
            walk_alpha=ALPHA,
            Z=None,
            source_grid=S.grid,
            score=lambda words, count: dataclasses.replace(inside, G=wider(G, count + 1)),
            again=lambda made: made.G,
            decide=lambda found: found,
            options=options,
        )
        return dataclasses.replace(plain, **changes)

    return made
