"""Segment any image with any words, without training.

>>> import nerveseg
>>> nerveseg.Vocabulary.parse_line("cat; kitten, grass").names
('cat', 'grass')

Names are imported when they are first used, so that ``import nerveseg`` costs nothing: it loads neither torch nor transformers.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nerveseg import errors
    from nerveseg import transition as transition
    from nerveseg import walk as walk
    from nerveseg.clicks.click import Click
    from nerveseg.clicks.correction import Correction
    from nerveseg.errors import ImageError as ImageError
    from nerveseg.errors import LabelError as LabelError
    from nerveseg.errors import NerveSegError
    from nerveseg.errors import OptionError as OptionError
    from nerveseg.errors import RecipeError as RecipeError
    from nerveseg.errors import WeightsNotFound as WeightsNotFound
    from nerveseg.image.load import LoadedImage as LoadedImage
    from nerveseg.image.load import load_image
    from nerveseg.recipe import Recipe as Recipe
    from nerveseg.recipe import list_recipes
    from nerveseg.refinement import refine
    from nerveseg.segmentation import Segmentation
    from nerveseg.segmenter import Encoding, Segmenter
    from nerveseg.segmenter import UntrainedWordWarning as UntrainedWordWarning
    from nerveseg.words.vocabulary import Vocabulary as Vocabulary

__all__ = [
    "Click",
    "Correction",
    "Encoding",
    "NerveSegError",
    "Segmentation",
    "Segmenter",
    "__version__",
    "errors",
    "list_recipes",
    "load_image",
    "refine",
]
"""What is promised. Other names are found here, too, for short: errors, `Vocabulary`, `Recipe`, and the modules `transition` and `walk`."""

__version__ = "0.1.0"

_MODULES = ("errors", "transition", "walk")
_HOMES = {
    "clicks.click": ("Click",),
    "clicks.correction": ("Correction",),
    "errors": ("ImageError", "LabelError", "NerveSegError", "OptionError", "RecipeError", "WeightsNotFound"),
    "image.load": ("LoadedImage", "load_image"),
    "recipe": ("Recipe", "list_recipes"),
    "refinement": ("refine",),
    "segmentation": ("Segmentation",),
    "segmenter": ("Encoding", "Segmenter", "UntrainedWordWarning"),
    "words.vocabulary": ("Vocabulary",),
}

_MOVED = {
    "Picture": "LoadedImage",
    "PictureError": "ImageError",
    "Seed": "Click",
    "UntrainedWord": "UntrainedWordWarning",
    "load": "load_image",
}
"""What a name was called → what it is called; the old one goes with the next release."""


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name (PEP 562) and keep the name here."""
    if name in _MOVED:
        warnings.warn(f"nerveseg.{name} is called {_MOVED[name]} now. Write that.", DeprecationWarning, stacklevel=2)
        name = _MOVED[name]
    if name in _MODULES:
        return import_module(f"nerveseg.{name}")
    for home, held in _HOMES.items():
        if name in held:
            found = getattr(import_module(f"nerveseg.{home}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module 'nerveseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
