"""A byte-pair tokenizer of CLIP's kind in which every word of the world is one token; other words fall apart into bytes."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

from transformers.models.clip.tokenization_clip import CLIPTokenizer

from nerveseg.synthetic import captions
from nerveseg.synthetic.names import NAMES

__all__ = ["CONTEXT", "save", "words"]

CONTEXT = 32
"""Tokens that the text towers of the embedded pair read, the two special ones counted."""

_END = "</w>"
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
_FUNCTION_WORDS = "a an the of on in with near and front photo picture image drawing scene this is there one small large big background"


def words(world: int = 1) -> tuple[str, ...]:
    """Every word that networks of this world were trained on or may meet in a template, sorted."""
    named = {part for name in NAMES for part in name.split()}
    return tuple(sorted(named | set(_FUNCTION_WORDS.split()) | (captions.vocabulary() if world > 1 else set())))


def save(folder: Path, world: int = 1) -> CLIPTokenizer:
    """Write the tokenizer's files into ``folder`` and load it from there."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = _merges(words(world))
    alphabet = list(_byte_characters().values())
    tokens = [*alphabet, *(symbol + _END for symbol in alphabet), *(a + b for a, b in merges), *_SPECIAL]
    vocabulary = {token: place for place, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(f"{a} {b}" for a, b in merges) + "\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=CONTEXT)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _merges(corpus: tuple[str, ...]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first, until every word of the corpus is one symbol."""
    spelled = {word: [*word[:-1], word[-1] + _END] for word in corpus}
    merges: list[tuple[str, str]] = []
    while any(len(symbols) > 1 for symbols in spelled.values()):
        pairs = Counter(pair for symbols in spelled.values() for pair in itertools.pairwise(symbols))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = {word: _merge(symbols, best) for word, symbols in spelled.items()}
    return merges


def _merge(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for symbol in symbols:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out


def _byte_characters() -> dict[int, str]:
    """The printable stand-in of each byte that GPT-2's byte-level BPE, and with it CLIP's, uses."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    stand_in = {byte: chr(byte) for byte in printable}
    spare = (byte for byte in range(256) if byte not in stand_in)
    stand_in.update({byte: chr(256 + place) for place, byte in enumerate(spare)})
    return stand_in
