"""A model that FiftyOne's ``dataset.apply_model`` takes, by an optional library. Checked with FiftyOne 1.22.1 and its database.

FiftyOne keeps 0 for what has no label and draws nothing there. So a mask holds ids + 1, and 0 for the background and for pixels that
are not decided.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8, UInt16

from nerveseg.errors import MissingExtra, OptionError
from nerveseg.words.vocabulary import Background, Vocabulary, need_background

__all__ = ["Labeller", "mask", "model"]


Labeller = Callable[..., Any]
"""What labels images: a `nerveseg.Segmenter`, or anything that is called like one."""


def model(segmenter: Labeller, labels: Any, *, background: Any = None, abstain: float = 0.0) -> Any:
    """Make a FiftyOne model that labels every pixel by words.

    Args:
        segmenter: from `Segmenter.from_pretrained`.
        labels: words in the order of their ids, as a segmenter takes them.
        background: None, "auto" or a list of words, as a segmenter takes it.
        abstain: pixels whose probability is below this hold 0. Larger: fewer pixels keep a label; 0 leaves none out. FiftyOne's
            ``confidence_thresh`` stands in for it in the call that gives one.

    Returns:
        An instance of a subclass of ``fiftyone.core.models.Model``. ``predict`` takes an image as a (H, W, 3) uint8 array and gives a
        ``fiftyone.Segmentation``; ``predict_all`` takes several of any sizes and has the networks see those of one size together.
        ``mask_targets`` names the values of its masks, for ``dataset.mask_targets``.

    Raises:
        LabelError: words that cannot become labels. OptionError: ``abstain`` out of range. MissingExtra: FiftyOne is not installed.
    """
    vocabulary = Vocabulary.parse(labels)
    need_background(vocabulary, Background.parse(background, vocabulary))
    if not 0.0 <= abstain <= 1.0:
        raise OptionError(f"Got abstain = {abstain:g}. Accepted is 0 to 1. Try 0.6, which asks for a probability of 6 in 10.")
    return _kind()(segmenter, vocabulary, background, abstain)


def mask(ids: Int64[np.ndarray, "H W"], labels: int, background: int | None = None) -> UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]:
    """A label map in FiftyOne's values.

    Args:
        ids: 0 … labels − 1; any other is not decided.
        labels: how many there are, the background included.
        background: its id, or None.

    Returns:
        ids + 1, and 0 for the background and what is not decided; uint16 where 255 is not enough.
    """
    named = (ids < labels) & (ids != (-1 if background is None else background))
    return np.where(named, ids + 1, 0).astype(np.uint8 if labels <= 255 else np.uint16)


def _kind() -> Any:
    """The class, which cannot be made without its base."""
    base, library = _library()

    class NerveSeg(base.Model):
        media_type = "image"
        ragged_batches = False  # nothing is resized before predict_all, which takes images of any sizes
        transforms = None
        preprocess = False

        def __init__(self, segmenter: Labeller, vocabulary: Vocabulary, background: Any, abstain: float) -> None:
            self.config = SimpleNamespace(confidence_thresh=abstain)  # by this name FiftyOne sets a threshold for one call
            self.mask_targets = {index + 1: name for index, name in enumerate(vocabulary.names)}
            self._segmenter, self._vocabulary, self._background = segmenter, vocabulary, background

        def predict(self, arg: Any) -> Any:
            return self.predict_all([arg])[0]

        def predict_all(self, args: Iterable[Any]) -> list[Any]:
            images = list(args)
            results = self._segmenter(images, self._vocabulary, background=self._background, batch=max(len(images), 1))
            return [self._told(result) for result in results]

        def _told(self, result: Any) -> Any:
            threshold = self.config.confidence_thresh
            decided = result.abstain(threshold) if threshold else result
            return library.Segmentation(mask=mask(decided.segmentation.numpy(), len(result.labels), result.background))

    return NerveSeg


def _library() -> tuple[Any, Any]:
    try:
        return importlib.import_module("fiftyone.core.models"), importlib.import_module("fiftyone")
    except ImportError as error:
        raise MissingExtra(
            "Got a model for FiftyOne, which is not installed. Accepted is version 1.22 or newer. Install it with: pip install fiftyone."
        ) from error
