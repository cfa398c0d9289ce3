"""Interactive correction: clicks, the walk that ends at them, and visual words.

>>> from nerveseg.clicks import Click
>>> Click("cat", points=[(30, 40)], strokes=[[(10, 10), (20, 12)]]).strokes
(((10.0, 10.0), (20.0, 12.0)),)
"""

from nerveseg.clicks.click import Click
from nerveseg.clicks.correction import Correction
from nerveseg.clicks.ground import Ground, Solved, prepare
from nerveseg.clicks.options import Options, parted
from nerveseg.clicks.solve import solved, wider

__all__ = ["Click", "Correction", "Ground", "Options", "Solved", "parted", "prepare", "solved", "wider"]
