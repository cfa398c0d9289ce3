"""S, G → P: the random walk with restarts, truncated as in the paper or to a certified tolerance.

>>> import torch
>>> from nerveseg import transition, walk
>>> heads = transition.Heads(torch.ones(1, 4, 2), torch.ones(1, 4, 2), (2, 2))
>>> G = torch.eye(4)
>>> S = transition.build(heads, G)
>>> result = walk.infinite(S, G, alpha=0.9, tolerance=1e-4)
>>> result.bound <= 1e-4, result.outcome.name
(True, 'CONVERGED')
"""

# A walk file gives ``Options``, ``linear``, ``needs`` ("S": a transition, "heads": queries and keys) and ``solve(S or heads, G, options)``.
from nerveseg.walk.base import Outcome, StepMatrix, Walk
from nerveseg.walk.cliper import cliper
from nerveseg.walk.direct import direct
from nerveseg.walk.infinite import infinite
from nerveseg.walk.iseg import iseg
from nerveseg.walk.lposs import lposs
from nerveseg.walk.truncated import truncated
from nerveseg.walk.woodbury import woodbury

__all__ = ["Outcome", "StepMatrix", "Walk", "cliper", "direct", "infinite", "iseg", "lposs", "truncated", "woodbury"]
