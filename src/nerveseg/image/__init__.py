"""Images in: anything that holds one becomes a `LoadedImage`; `geometry` fits it to a network."""

from nerveseg.image.load import MAX_PIXELS, LoadedImage, load_image

__all__ = ["MAX_PIXELS", "LoadedImage", "load_image"]
