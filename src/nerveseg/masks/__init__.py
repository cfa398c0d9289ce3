"""Probabilities on the token grid → label ids at the image's size: upsample, refine, decide by a named rule, clean up."""

from nerveseg.masks.decide import decide
from nerveseg.masks.upsample import resample

__all__ = ["decide", "resample"]
