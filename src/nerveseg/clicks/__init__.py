"""Correcting by hand: seeds, the walk that ends at them, and the visual words that they show.

>>> from nerveseg.clicks import Seed
>>> Seed("cat", points=[(30, 40)], strokes=[[(10, 10), (20, 12)]]).strokes
(((10.0, 10.0), (20.0, 12.0)),)
"""

from nerveseg.clicks.correction import Correction
from nerveseg.clicks.ground import Ground, Solved, prepare
from nerveseg.clicks.options import Options, parted
from nerveseg.clicks.seed import Seed
from nerveseg.clicks.solve import solved, wider

__all__ = ["Correction", "Ground", "Options", "Seed", "Solved", "parted", "prepare", "solved", "wider"]
