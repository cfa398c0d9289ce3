"""Segment any picture with any words, without training.

>>> import nerveseg
>>> nerveseg.Vocabulary.parse_line("cat; kitten, grass").names
('cat', 'grass')

Names are imported when they are first used, so that ``import nerveseg`` costs nothing: it loads neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nerveseg import errors, transition, walk
    from nerveseg.clicks.seed import Seed
    from nerveseg.errors import LabelError, NerveSegError, OptionError, PictureError, RecipeError, WeightsNotFound
    from nerveseg.picture.load import Picture, load
    from nerveseg.recipe import Recipe
    from nerveseg.refinement import refine
    from nerveseg.segmentation import Segmentation
    from nerveseg.segmenter import Encoding, Segmenter, UntrainedWord
    from nerveseg.words.vocabulary import Vocabulary

__all__ = [
    "Encoding",
    "LabelError",
    "NerveSegError",
    "OptionError",
    "Picture",
    "PictureError",
    "Recipe",
    "RecipeError",
    "Seed",
    "Segmentation",
    "Segmenter",
    "UntrainedWord",
    "Vocabulary",
    "WeightsNotFound",
    "__version__",
    "errors",
    "load",
    "refine",
    "transition",
    "walk",
]

__version__ = "0.1.0"

_MODULES = ("errors", "transition", "walk")
_HOMES = {
    "clicks.seed": ("Seed",),
    "errors": ("LabelError", "NerveSegError", "OptionError", "PictureError", "RecipeError", "WeightsNotFound"),
    "picture.load": ("Picture", "load"),
    "recipe": ("Recipe",),
    "refinement": ("refine",),
    "segmentation": ("Segmentation",),
    "segmenter": ("Encoding", "Segmenter", "UntrainedWord"),
    "words.vocabulary": ("Vocabulary",),
}


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name (PEP 562) and keep the name here."""
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
