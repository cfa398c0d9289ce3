"""Heads → the transition S as an operator: kernels, head weights, the local stencil, and their blend.

>>> import torch
>>> from nerveseg import transition
>>> heads = transition.Heads(torch.ones(2, 4, 3), torch.ones(2, 4, 3), (2, 2))
>>> S = transition.build(heads, torch.full((4, 2), 0.5), beta=0.5)
>>> S.to_dense().sum(dim=1).tolist()
[1.0, 1.0, 1.0, 1.0]
"""

from nerveseg.transition.assemble import build
from nerveseg.transition.base import Operator, Transition
from nerveseg.transition.heads import Heads
from nerveseg.transition.operators import DenseMatrix, LowRank, SparseRows
from nerveseg.transition.options import Options
from nerveseg.transition.tiled import Places, TiledHeads

__all__ = ["DenseMatrix", "Heads", "LowRank", "Operator", "Options", "Places", "SparseRows", "TiledHeads", "Transition", "build"]
