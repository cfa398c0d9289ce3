"""Every error that nerveseg raises on purpose.

    NerveSegError
    ├── ImageError      (ValueError)   an image that cannot be read, is too large, or is ambiguous
    │   └── ImageTooLarge              … that takes more pixels or memory than are accepted
    ├── LabelError        (ValueError)   words that cannot become labels
    ├── OptionError       (ValueError)   a knob out of its range, or a knob that does not exist
    ├── RecipeError       (ValueError)   a recipe that cannot be found, read or composed
    ├── ShapeError        (ValueError)   a tensor whose axes do not fit
    ├── StochasticError   (ValueError)   rows of S or G that are not, or cannot be made, ≥ 0 with sum 1
    ├── RegistryError     (LookupError)  a stage name that nothing answers to
    ├── SavedError        (OSError)      a file of saved scores or heads that cannot be read
    ├── WeightsNotFound   (OSError)      weights that are not on this machine
    ├── WeightsError      (OSError)      weights that are there but cannot be used
    ├── OutOfMemory       (MemoryError)  an image that the device's memory does not hold
    ├── OutputError       (OSError)      a result that cannot be written
    ├── DataError         (ValueError)   a data set, or a file of one, that is not what it should be
    ├── RunError          (RuntimeError) a long job that cannot start, go on or be read
    └── MissingExtra      (ImportError)  an optional package that is not installed

Each is also the builtin that a caller expects, so ``except ValueError`` keeps working. A message says what came, what is
accepted and what to do, one sentence each.
"""

from __future__ import annotations

__all__ = [
    "DataError",
    "ImageError",
    "ImageTooLarge",
    "LabelError",
    "MissingExtra",
    "NerveSegError",
    "OptionError",
    "OutOfMemory",
    "OutputError",
    "RecipeError",
    "RegistryError",
    "RunError",
    "SavedError",
    "ShapeError",
    "StochasticError",
    "WeightsError",
    "WeightsNotFound",
]


class NerveSegError(Exception):
    """Root of the tree: catch it to catch everything nerveseg raises on purpose."""


class ImageError(NerveSegError, ValueError):
    """An image that cannot be read, is too large, or whose layout is ambiguous."""


class ImageTooLarge(ImageError):
    """An image with more pixels, or whose decoding takes more memory, than are accepted."""


class LabelError(NerveSegError, ValueError):
    """Words that cannot become labels: none, empty, or the same word twice."""


class OptionError(NerveSegError, ValueError):
    """A knob out of its range, or a knob that does not exist."""


class RecipeError(NerveSegError, ValueError):
    """A recipe that cannot be found, read or composed."""


class ShapeError(NerveSegError, ValueError):
    """A tensor whose axes do not fit the ones beside it."""


class StochasticError(NerveSegError, ValueError):
    """Rows that have to be non-negative with sum 1 and are not: of label probabilities, or of a transition that cannot be made so."""


class RegistryError(NerveSegError, LookupError):
    """A stage name that no module and no entry point answers to."""


class SavedError(NerveSegError, OSError):
    """A file of saved scores or heads that is not there, or cannot be read."""


class WeightsNotFound(NerveSegError, OSError):
    """Weights that are not on this machine, with what it takes to get them."""


class WeightsError(NerveSegError, OSError):
    """Weights that are on this machine but cannot be used, with the reason."""


class OutOfMemory(NerveSegError, MemoryError):
    """An image, or so many labels, that the device's memory does not hold, with what to lower."""


class OutputError(NerveSegError, OSError):
    """A result that cannot be written where it was asked for."""


class DataError(NerveSegError, ValueError):
    """A data set that is not where it should be, or a file of it that is missing, damaged, of another size or with ids out of range."""


class RunError(NerveSegError, RuntimeError):
    """A long job that cannot start, go on or be read: another plan in its folder, a journal of something else, a part that died."""


class MissingExtra(NerveSegError, ImportError):
    """An optional package that is not installed, with the exact command that installs it."""
