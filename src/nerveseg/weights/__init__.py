"""Where models come from: the catalogue, the pair that comes with the package, local folders and the hub's cache."""

from __future__ import annotations

from nerveseg.weights.catalogue import Row, catalogue
from nerveseg.weights.download import Plan, fetch, plan, present
from nerveseg.weights.locate import Folder, locate, locate_all

__all__ = ["Folder", "Plan", "Row", "catalogue", "fetch", "locate", "locate_all", "plan", "present"]
