"""Read label files: plain lists, spreadsheets, JSON and the ``names`` of a data.yaml. Ids are positions: a gap is refused."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerveseg import text_files
from nerveseg.errors import LabelError
from nerveseg.parse import from_json
from nerveseg.reprs import brief
from nerveseg.words.label_line import counted, numbered, parted, strings, without_comment
from nerveseg.words.normalize import plain

__all__ = ["SHEETS", "Content", "entries", "read"]

SHEETS = (".csv", ".tsv", ".tab")
_NAMES = ("name", "names", "label", "labels", "class", "classes", "category", "categories", "class name", "label name", "class_name")
_IDS = ("id", "ids", "index", "idx", "number", "class id", "class_id", "label id", "label_id", "category_id", "train_id", "#", "no")
_SYNONYMS = ("synonyms", "synonym", "other names", "aliases")
_FORMS = "Accepted are a column 'name' (and 'id'), or names alone, one a row"


@dataclass(frozen=True)
class Content:
    """What a structured file holds, to be read as labels given in Python.

    Attributes:
        content: a list, or a dict.
    """

    content: Any

    __repr__ = brief


def read(path: Path) -> list[list[str]] | Content:
    """Read a file by its ending.

    Returns:
        The strings of each label, or the content of a JSON or YAML file.

    Raises:
        LabelError: naming file and line.
    """
    text, ending = text_files.read(path, "the label file", LabelError), path.suffix.lower()
    if ending == ".json":
        return Content(_named(_json(text, path), path))
    if ending in (".yaml", ".yml"):
        return Content(_yaml(text, path))
    if ending in SHEETS and (rows := _rows(text, path)) is not None:
        return rows
    return _plain(text, path)


def entries(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a list that are no comment, with their numbers from 1; blank ones come as empty strings."""
    # split, not splitlines: the latter also breaks at form feeds and the like, which are refused as control characters instead.
    for number, line in enumerate(text.split("\n"), start=1):
        kept = without_comment(line)
        if kept or not line.strip():
            yield number, kept


def _plain(text: str, path: Path) -> list[list[str]]:
    held = [(number, words) for number, words in entries(text) if words]
    found = list[list[str]]()
    for at, words in numbered([words for _, words in held], f"the label file {path}", spaces=True):
        where = f"line {held[at][0]} of {path}"
        try:
            parts = parted(words)
        except LabelError as error:
            raise LabelError(f"{error} (In {where}.)") from error
        if len(parts) > 1:
            raise LabelError(
                f"Got {words[:80]!r} in {where}. Accepted is one label a line. Part labels by lines and synonyms by ';', or put a label "
                "that has a comma in double quotes."
            )
        found.append(strings(words, where))
    return found


def _rows(text: str, path: Path) -> list[list[str]] | None:
    """The labels of a spreadsheet; None for a file that is a plain list."""
    mark, text = _mark(text, path)
    if mark is None:
        return None
    try:
        table = [(row, [cell.strip() for cell in cells]) for row, cells in _cells(text, mark) if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise LabelError(f"Got the label file {path}, which is no table ({error}). {_FORMS}. Save it as CSV again.") from error
    if not table:
        return []
    name, number, more = _columns(table, path, mark)
    if name is None:
        return None
    body = table[1:] if _is_header(table[0][1]) else table
    if len(body) == 1 and not _is_header(table[0][1]) and number is None and len(body[0][1]) > 1:
        return [[plain(word, f"line 1 of {path}") for word in counted(cell)] for cell in body[0][1] if cell]
    found = list[tuple[str, list[str]]]()
    for row, cells in body:
        where = f"line {row} of {path}"
        if len(cells) <= max(name, -1 if number is None else number):
            raise LabelError(f"Got {len(cells)} cells in {where}. {_FORMS}. Fill the row.")
        texts_of = [*counted(cells[name]), *(counted(cells[more]) if more is not None and len(cells) > more and cells[more] else ())]
        found.append(("" if number is None else cells[number], [plain(word, where) for word in texts_of]))
    if number is None:
        return [words for _, words in found]
    wrong = next((given for given, _ in found if not (given.isascii() and given.isdigit())), None)
    if wrong is not None:
        raise LabelError(f"Got the id {wrong[:40]!r} in {path}. Accepted are the numbers 0 to K − 1. Number the rows so.")
    return [found[at][1] for at, _ in numbered([f"{given}:x" for given, _ in found], f"the label file {path}")]


def _mark(text: str, path: Path) -> tuple[str | None, str]:
    """What parts the cells, and the text without Excel's own line about it."""
    first, _, rest = text.partition("\n")
    if said := re.fullmatch(r"\s*\"?sep=(.)\"?\s*", first):
        return said[1], rest
    if path.suffix.lower() != ".csv" or "\t" in first:
        return "\t", text
    if _is_header([first.strip().strip('"')]):  # one column: a comma or semicolon below is part of a name
        return ",", text
    outside = re.sub(r'"[^"]*"', "", first)
    if "," not in outside and ";" in outside:
        cells = [cell.strip().strip('"') for cell in first.split(";")]
        # Without a header or ids it is our own list: synonyms parted by ';'.
        return (";" if _is_header(cells) or cells[0].isdigit() else None), text
    return ("," if "," in text or '"' in text else None), text


def _cells(text: str, mark: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text), delimiter=mark, strict=True, skipinitialspace=True)
    for cells in reader:
        yield reader.line_num, cells


def _is_header(cells: Sequence[str]) -> bool:
    return any(cell.strip().casefold() in _NAMES for cell in cells) and all(not cell.isdigit() for cell in cells)


def _columns(table: list[tuple[int, list[str]]], path: Path, mark: str) -> tuple[int | None, int | None, int | None]:
    """The columns of names, ids and synonyms."""
    first = [cell.casefold() for cell in table[0][1]]
    if _is_header(first):
        held = [at for at, cell in enumerate(first) if cell in _NAMES]
        if len(held) > 1:
            raise LabelError(f"Got the columns {', '.join(first[at] for at in held)} in {path}. {_FORMS}. Take all but one away.")
        number = next((at for at, cell in enumerate(first) if cell in _IDS), None)
        return held[0], number, next((at for at, cell in enumerate(first) if cell in _SYNONYMS), None)
    widths = {len([cell for cell in cells if cell]) for _, cells in table}
    if widths == {1} or (len(table) == 1 and not first[0].isdigit()):
        return 0, None, None
    digits = [at for at in range(len(first)) if all(len(cells) > at and cells[at].isdigit() for _, cells in table)]
    if len(first) == 2 and widths == {2} and len(digits) == 1:
        return 1 - digits[0], digits[0], None
    raise LabelError(
        f"Got rows of {max(widths)} cells without a header in {path}. {_FORMS}. Write a first row such as "
        f"'id{mark}name', or put a name that holds {mark!r} in double quotes."
    )


def _json(text: str, path: Path) -> Any:
    try:
        return from_json(text)
    except ValueError as error:
        raise LabelError(
            f"Got the label file {path}, which is no JSON ({error}). Accepted is JSON. Mend it, or write one label a line."
        ) from error


def _named(found: Any, path: Path) -> Any:
    """The labels in a JSON file: itself, transformers' ``id2label``, or the entries of ``categories`` and their like."""
    if isinstance(found, dict):
        inner = next(
            (
                key
                for key in ("id2label", "label2id", "names", "categories", "labels", "classes")
                if isinstance(found.get(key), (dict, list))
            ),
            None,
        )
        if inner is not None:
            found = found[inner]
    if isinstance(found, list) and found and all(isinstance(entry, dict) for entry in found):
        if not all("name" in entry for entry in found):
            raise LabelError(
                f"Got a list of objects without 'name' in {path}. Accepted are names, or objects with 'name' and 'id'. Add them."
            )
        ids = [entry.get("id") for entry in found]
        found = (
            [entry["name"] for entry in found]
            if ids == [None] * len(ids)
            else {at: entry["name"] for at, entry in zip(ids, found, strict=True)}
        )
        if isinstance(found, dict) and not all(isinstance(at, int) and not isinstance(at, bool) for at in found):
            raise LabelError(f"Got objects with ids that are no whole numbers in {path}. Accepted are the ids 0 to K − 1. Number them so.")
    if not isinstance(found, (dict, list)) or not found:
        raise LabelError(
            f"Got {type(found).__name__ if found not in ([], {}) else 'nothing'} in {path}. Accepted are a list of words, or an object "
            "from id to name. Write one of these."
        )
    return found


_ITEM = re.compile(r"\s*(?:-\s+|(\d+)\s*:\s+)(.+?)\s*")


def _yaml(text: str, path: Path) -> Any:
    """The key ``names`` of a data set's YAML: a list or a map of ids, in brackets or line by line. Nothing else of YAML is read."""
    lines = text.split("\n")
    starts = [at for at, line in enumerate(lines) if re.match(r"names\s*:", line)]
    refused = f"Got the label file {path} whose 'names' cannot be read"
    advice = "Accepted is a list or a map of ids, plain or in quotes. Write the names into a .txt file, one a line."
    if len(starts) != 1:
        raise LabelError(f"Got the label file {path} with {len(starts)} keys 'names'. {advice}")
    rest = without_comment(lines[starts[0]].partition(":")[2])
    if rest:
        flow = rest + "".join(f" {without_comment(line)}" for line in lines[starts[0] + 1 :]) if rest[-1] not in "]}" else rest
        body = re.match(r"[\[{](.*?)[\]}]", flow)
        if body is None or any(letter in body[1] for letter in "[]{}&*!|>"):
            raise LabelError(f"{refused}. {advice}")
        items = [f"- {part.strip()}" if rest[0] == "[" else part.strip() for part in parted(_double(body[1])) if part.strip()]
    else:
        items = list[str]()
        for line in lines[starts[0] + 1 :]:
            if line[:1] not in ("", " ", "\t", "-", "#"):
                break
            if kept := without_comment(line):
                items.append(kept)
    found = [_ITEM.fullmatch(item) for item in items]
    if not found or any(match is None for match in found) or len({match[1] is None for match in found if match}) > 1:
        raise LabelError(f"{refused}. {advice}")
    words = [(match[1], _unquoted(match[2])) for match in found if match]
    return [word for _, word in words] if words[0][0] is None else {int(at or 0): word for at, word in words}


def _double(text: str) -> str:
    """Single quotes of YAML as double ones, so that one reader parts both."""
    return re.sub(r"(?<![^\s,\[{:])'((?:[^']|'')*)'(?=\s*(?:,|$))", lambda found: '"' + found[1].replace("''", "'") + '"', text)


def _unquoted(word: str) -> list[str]:
    """A scalar as it stands: one string, quotes off; inside a list, so that nothing in it is parted."""
    if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'":
        return ['"' + word[1:-1].replace(word[0] * 2, word[0]).replace('"', '""') + '"']
    return [word]
