"""Where models come from: the catalogue, the pair that comes with the package, local folders and the hub's cache."""

from __future__ import annotations

from nerveseg.weights.catalogue import Row, catalogue
from nerveseg.weights.locate import Folder, fetch, locate

__all__ = ["Folder", "Row", "catalogue", "fetch", "locate"]
