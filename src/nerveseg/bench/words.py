"""Turn a data set's classes into labels and a background, and result ids back into classes.

data = datasets.open("voc21", root)
asked = ask(data)                                     # or ask(data, item), where not all classes are offered in all images
result = segmenter(image, asked.vocabulary, background=asked.background)
guess = asked.guess(result.segmentation.numpy())      # ids as in the data set's masks
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt16

from nerveseg.datasets import DataSet, Item
from nerveseg.errors import DataError, LabelError, OptionError
from nerveseg.reprs import brief
from nerveseg.words.vocabulary import BACKGROUND, Background, Label, Vocabulary, folded

__all__ = ["OFFERS", "Asked", "ask", "background_of"]

OFFERS = ("listed", "all")


@dataclass(frozen=True, eq=False)
class Asked:
    """Words for an image.

    Attributes:
        vocabulary: the labels.
        background: what stands for the rest, or None.
        ids: result id → class; C, the number of classes, where it is none of them.
    """

    vocabulary: Vocabulary
    background: Background | None
    ids: UInt16[np.ndarray, " k"]

    __repr__ = brief

    def guess(self, segmentation: Int64[np.ndarray, "H W"]) -> UInt16[np.ndarray, "H W"]:
        """A result's ids as those of the data set."""
        return self.ids[segmentation]


def ask(data: DataSet, item: Item | None = None, *, offer: str = "listed", misses: bool = False) -> Asked:
    """Put a data set's classes into words.

    Labels are the classes in the order of their ids. Where class 0 is the background its strings become the background of the question,
    and its pixels class 0 again. Strings are taken as the list has them: one that stands in two classes is asked for twice, as the field
    does. So is one of a published list that is a class's and the background's; where its program gives the pixels of such a one to the
    background, it is asked for twice there, and a class that has no other string is no label.

    Args:
        data: the data set.
        item: the image; None asks for what is asked in all of them.
        offer: ``"listed"``: the labels that the data set offers for this image, where it does, in its order. ``"all"``: every class.
        misses: ask for a background where the data set has none, too; its pixels are then none of the classes.

    Raises:
        OptionError: another offer. DataError: a list of names in which a class and the background share a word, or a class has none.
    """
    if offer not in OFFERS:
        raise OptionError(f"Got the offer {offer!r}. Accepted are {', '.join(OFFERS)}. Choose one of them.")
    listed = offer == "listed" and data.offered is not None and item is not None
    offered = data.offered(item) if listed and data.offered is not None and item is not None else range(data.classes)
    first = 1 if data.background else 0
    labels = {index: data.names.labels[index] for index in offered if index >= first}
    words = data.names.labels[0].strings if data.background else data.names.others or ((BACKGROUND,) if misses else ())
    if data.names.first:
        labels, words = _without(labels, words)
    classes, vocabulary = list(labels), Vocabulary(tuple(labels.values()))
    rest = 0 if data.background else data.classes
    background = background_of(data, vocabulary, words) if words else None
    return Asked(vocabulary, background, np.array([*classes, *([rest] if background else [])], np.uint16))


def background_of(data: DataSet, vocabulary: Vocabulary, words: tuple[str, ...]) -> Background | None:
    """The background asked for by some words, beside the labels; raises `DataError` where they do not fit the data set's names."""
    if data.names.dialect:
        return Background(words, published=True)
    try:
        return Background.parse(Background(tuple(dict.fromkeys(words))), vocabulary)
    except LabelError as error:
        raise DataError(
            f"Got the names {data.names.origin} of {data.name} with a background that does not fit: {error} "
            "Of a published list say whose it is, such as sclip:PATH."
        ) from error


def _without(labels: Mapping[int, Label], words: tuple[str, ...]) -> tuple[dict[int, Label], tuple[str, ...]]:
    """Labels without the background's strings, and these with each as often as it stands in the list: in a softmax over all strings the
    background's share is that of its best one, so that no other label can win by the same.
    """
    taken = {folded(word) for word in words}
    again = tuple(string for label in labels.values() for string in label.strings if folded(string) in taken)
    own = {index: tuple(string for string in label.strings if folded(string) not in taken) for index, label in labels.items()}
    return {index: Label(labels[index].name, strings) for index, strings in own.items() if strings}, words + again
