"""Sentences around a word: CLIP was trained on captions, so a word is encoded inside several of them and the vectors are averaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from nerveseg.errors import OptionError

__all__ = ["TEMPLATES", "clean", "fill", "template_set"]

PLACE = "{}"

# The 80 ImageNet sentences published with OpenAI's CLIP (https://github.com/openai/CLIP, MIT licence, Copyright 2021 OpenAI).
_OPENAI = """
a bad photo of a {}.|a photo of many {}.|a sculpture of a {}.|a photo of the hard to see {}.|a low resolution photo of the {}.
a rendering of a {}.|graffiti of a {}.|a bad photo of the {}.|a cropped photo of the {}.|a tattoo of a {}.
the embroidered {}.|a photo of a hard to see {}.|a bright photo of a {}.|a photo of a clean {}.|a photo of a dirty {}.
a dark photo of the {}.|a drawing of a {}.|a photo of my {}.|the plastic {}.|a photo of the cool {}.
a close-up photo of a {}.|a black and white photo of the {}.|a painting of the {}.|a painting of a {}.|a pixelated photo of the {}.
a sculpture of the {}.|a bright photo of the {}.|a cropped photo of a {}.|a plastic {}.|a photo of the dirty {}.
a jpeg corrupted photo of a {}.|a blurry photo of the {}.|a photo of the {}.|a good photo of the {}.|a rendering of the {}.
a {} in a video game.|a photo of one {}.|a doodle of a {}.|a close-up photo of the {}.|a photo of a {}.
the origami {}.|the {} in a video game.|a sketch of a {}.|a doodle of the {}.|a origami {}.
a low resolution photo of a {}.|the toy {}.|a rendition of the {}.|a photo of the clean {}.|a photo of a large {}.
a rendition of a {}.|a photo of a nice {}.|a photo of a weird {}.|a blurry photo of a {}.|a cartoon {}.
art of a {}.|a sketch of the {}.|a embroidered {}.|a pixelated photo of a {}.|itap of the {}.
a jpeg corrupted photo of the {}.|a good photo of a {}.|a plushie {}.|a photo of the nice {}.|a photo of the small {}.
a photo of the weird {}.|the cartoon {}.|art of the {}.|a drawing of the {}.|a photo of the large {}.
a black and white photo of a {}.|the plushie {}.|a dark photo of a {}.|itap of a {}.|graffiti of the {}.
a toy {}.|itap of my {}.|a photo of a cool {}.|a photo of a small {}.|a tattoo of the {}.
"""

_OPENAI80 = tuple(sentence for line in _OPENAI.split("\n") if line for sentence in line.split("|"))

# MaskCLIP's five (https://github.com/chongzhou96/MaskCLIP, Apache-2.0) beside the eighty.
_SCENE = ("there is a {} in the scene.", "there is the {} in the scene.", "this is a {} in the scene.")
_SCENE += ("this is the {} in the scene.", "this is one {} in the scene.")

# The 15 of CLIP as RNN (https://github.com/google-research/google-research/tree/master/clip_as_rnn, Apache-2.0), which CLIPer uses too.
_CAR = """
a clean origami {}.|a photo of a {}.|This is a photo of a {}|There is a {} in the scene|There is the {} in the scene
a photo of a {} in the scene
a photo of a small {}.|a photo of a medium {}.|a photo of a large {}.|This is a photo of a small {}.|This is a photo of a medium {}.
This is a photo of a large {}.|There is a small {} in the scene.|There is a medium {} in the scene.|There is a large {} in the scene.
"""

TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "none": (PLACE,),
        "plain": ("a photo of a {}.",),
        "scene": (
            "a picture of a {}.",
            "a picture of the {}.",
            "part of a {}.",
            "a {} among other things.",
            "a {} seen up close.",
            "a {} in the distance.",
            "an area of {}.",
        ),
        "openai80": _OPENAI80,
        "maskclip85": (*_OPENAI80, *_SCENE),
        "car15": tuple(sentence for line in _CAR.split("\n") if line for sentence in line.split("|")),
    }
)
"""Name → sentences with one ``{}`` each. More sentences: steadier vectors, proportionally more text to encode."""


def clean(word: str) -> str:
    """Turn a class name into plain words: underscores become spaces, runs of white space one space.

    >>> clean("  potted_plant ")
    'potted plant'
    """
    return " ".join(word.replace("_", " ").split())


def fill(template: str, word: str) -> str:
    """Set a word into a sentence; braces inside the word stay as they are.

    Args:
        template: a sentence that holds ``{}`` exactly once.
        word: a class name; underscores become spaces.

    Raises:
        OptionError: the template does not hold ``{}`` exactly once.

    >>> fill("a photo of a {}.", "potted_plant")
    'a photo of a potted plant.'
    """
    if template.count(PLACE) != 1:
        raise OptionError(
            f"Got the template {template!r}. Accepted is a sentence with {PLACE} exactly once. Put {PLACE} where the word goes."
        )
    return template.replace(PLACE, clean(word))


def template_set(given: str | Iterable[str]) -> tuple[str, ...]:
    """Look up a named set of sentences, or check sentences of the caller's own.

    Args:
        given: a name in `TEMPLATES`, one sentence with ``{}``, or several.

    Raises:
        OptionError: an unknown name, no sentence at all, or a sentence without ``{}``.

    >>> template_set("plain")
    ('a photo of a {}.',)
    """
    if isinstance(given, str):
        if given in TEMPLATES:
            return TEMPLATES[given]
        if PLACE not in given:
            raise OptionError(
                f"Got the templates {given!r}. Accepted are {', '.join(TEMPLATES)}. Name one of them, or give sentences with {PLACE}."
            )
        given = (given,)
    sentences = tuple(given)
    if not sentences:
        raise OptionError(f"Got no template. Accepted is at least one sentence with {PLACE}. Use 'none' for the bare word.")
    for sentence in sentences:
        fill(sentence, "")
    return sentences
