"""Captions of the second world, as people write them: counts, sizes, colours, patterns, synonyms, and not a word of where things are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nerveseg.synthetic.looks import COLOURS
from nerveseg.synthetic.names import NAMES, THINGS

__all__ = ["SYNONYMS", "Group", "foil", "plural", "vocabulary", "write"]

SYNONYMS: dict[str, tuple[str, ...]] = {
    "dog": ("puppy", "hound"), "cat": ("kitten",), "horse": ("pony",), "cow": ("bull",), "pig": ("piglet", "hog"), "sheep": ("lamb",),
    "rabbit": ("bunny", "hare"), "mouse": ("rat",), "rooster": ("cock", "chicken"), "turtle": ("tortoise",), "snake": ("serpent",),
    "crocodile": ("alligator",), "frog": ("toad",), "ladybug": ("beetle",), "monkey": ("ape",), "hamburger": ("burger",),
    "donut": ("doughnut",), "corn": ("maize",), "eggplant": ("aubergine",), "bread": ("loaf",), "car": ("automobile",), "truck": ("lorry",),
    "bus": ("coach",), "bicycle": ("bike",), "scooter": ("moped",), "train": ("locomotive",), "airplane": ("plane", "jet"),
    "helicopter": ("chopper",), "sailboat": ("yacht",), "ship": ("boat",), "telephone": ("phone",), "television": ("tv",),
    "laptop": ("computer",), "football": ("soccer ball",), "house": ("home", "cottage"), "shoe": ("sneaker",), "backpack": ("rucksack",),
    "violin": ("fiddle",), "hat": ("top hat",), "clock": ("alarm clock",), "lamp": ("light bulb",), "cake": ("birthday cake",),
    "grass": ("lawn", "meadow"), "sky": ("clouds",), "water": ("sea", "lake"), "sand": ("beach",), "brick wall": ("bricks",),
    "snow": ("ice",), "wooden floor": ("floorboards", "parquet"), "road": ("street", "asphalt"),
}  # fmt: skip
"""Name → other words that captions use for it."""

_PLURALS = {"mouse": "mice", "sheep": "sheep", "fish": "fish", "scissors": "scissors", "grapes": "grapes", "broccoli": "broccoli"}
_NO_ARTICLE = frozenset({"scissors", "grapes", "corn", "maize", "bread", "cheese", "broccoli"})
_NUMBERS = ("two", "three", "four")
_SEVERAL = ("several", "some", "many")
_OPENINGS = ("a photo of", "a picture of", "an image of", "a scene with", "a view of", "a drawing of", "", "", "")
_JOINTS = ("on", "in front of", "with", "near", "by")
_BEFORE_STUFF = ("", "", "the", "some")


@dataclass(frozen=True)
class Group:
    """Things of one kind in a scene.

    Attributes:
        name: place in `NAMES`.
        count: how many.
        look: what their look is called, as "striped red"; may be empty.
        size: big, large, small, …; may be empty.
    """

    name: int
    count: int
    look: str = ""
    size: str = ""


def write(rng: np.random.Generator, groups: Sequence[Group], stuffs: Sequence[int], light: str) -> str:
    """Write one sentence about ``groups`` over ``stuffs`` (places in `NAMES`), in an order that tells nothing."""
    things = [_phrase(rng, groups[i]) for i in rng.permutation(len(groups))]
    ground = [_before(rng, _word(rng, NAMES[stuffs[i]])) for i in rng.permutation(len(stuffs))]
    opening = str(rng.choice(_OPENINGS))
    joint = str(rng.choice(_JOINTS)) if things else ""
    return " ".join(part for part in (opening, _and(rng, things), joint, _and(rng, ground), light) if part)


def foil(rng: np.random.Generator, groups: Sequence[Group], stuffs: Sequence[int]) -> tuple[list[Group], list[int]]:
    """Change one thing about a scene, so that its sentence becomes untrue: a name, a colour, a count, or a stuff."""
    groups, stuffs = list(groups), list(stuffs)
    if stuffs and (not groups or rng.random() < 0.2):
        others = [i for i in range(len(THINGS), len(NAMES)) if i not in stuffs]
        stuffs[int(rng.integers(len(stuffs)))] = int(rng.choice(others))
        return groups, stuffs
    place = int(rng.integers(len(groups)))
    group = groups[place]
    colour = next((word for word in group.look.split() if word in COLOURS), None)
    if colour and rng.random() < 0.5:
        other = str(rng.choice([word for word in COLOURS if word != colour]))
        groups[place] = replace(group, look=group.look.replace(colour, other))
    elif group.count > 1 and rng.random() < 0.4:
        groups[place] = replace(group, count=1)
    else:
        taken = {one.name for one in groups}
        groups[place] = replace(group, name=int(rng.choice([i for i in range(len(THINGS)) if i not in taken])))
    return groups, stuffs


def plural(noun: str) -> str:
    """More than one of ``noun``.

    >>> plural("strawberry"), plural("bus"), plural("brick wall")
    ('strawberries', 'buses', 'brick walls')
    """
    *first, last = noun.split()
    if last in _PLURALS:
        many = _PLURALS[last]
    elif last.endswith("f"):
        many = last[:-1] + "ves"
    elif last.endswith("y") and last[-2] not in "aeiou":
        many = last[:-1] + "ies"
    else:
        many = last + ("es" if last.endswith(("s", "x", "ch", "sh")) else "s")
    return " ".join([*first, many])


def vocabulary() -> frozenset[str]:
    """Every word that a caption of the second world may hold."""
    nouns = [*NAMES, *(word for words in SYNONYMS.values() for word in words)]
    told = [*nouns, *map(plural, nouns), *COLOURS, *_NUMBERS, *_SEVERAL, *_OPENINGS, *_JOINTS, *_BEFORE_STUFF]
    told += ["striped spotted checked big large huge small little tiny at night at sunset in the fog and a an"]
    return frozenset(part for words in told for part in words.split())


def _phrase(rng: np.random.Generator, group: Group) -> str:
    noun = _word(rng, NAMES[group.name])
    adjectives = [part for part in (group.size, group.look) if part]
    if group.count == 1:
        words = " ".join([*adjectives, noun])
        return words if noun in _NO_ARTICLE else f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
    number = _NUMBERS[group.count - 2] if group.count == 2 or rng.random() < 0.7 else str(rng.choice(_SEVERAL))
    return " ".join([number, *adjectives, plural(noun)])


def _word(rng: np.random.Generator, name: str) -> str:
    others = SYNONYMS.get(name)
    return str(rng.choice(others)) if others and rng.random() < 0.25 else name


def _before(rng: np.random.Generator, stuff: str) -> str:
    return f"{rng.choice(_BEFORE_STUFF)} {stuff}".strip()


def _and(rng: np.random.Generator, parts: Sequence[str]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if rng.random() < 0.6 else " and ".join(parts)
