"""Segment any picture with any words, without training."""

__version__ = "0.1.0"
