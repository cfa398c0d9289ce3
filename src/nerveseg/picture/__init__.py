"""Pictures in: anything that holds one becomes a `Picture`; `geometry` fits it to a network."""

from nerveseg.picture.load import MAX_PIXELS, Picture, load

__all__ = ["MAX_PIXELS", "Picture", "load"]
