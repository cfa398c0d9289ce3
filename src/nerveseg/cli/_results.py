"""One result on the terminal: the labels with their shares and confidences, the seconds of each stage, the files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerveseg.cli._console import console

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from nerveseg.segmentation import Segmentation

__all__ = ["as_json", "confidences", "plain_table", "show"]

_BAR = 24  # characters of a share of 1
_SHOWN = 30  # labels that the table lists; --json lists all


def confidences(result: Segmentation) -> dict[str, float]:
    """Name → mean probability where the label won; only labels that are in the image."""
    return {part["label"]: part["score"] for part in result.segments()}


def as_json(image: str, result: Segmentation, files: Iterable[Path], taken: Mapping[str, float]) -> dict[str, Any]:
    """One result as plain values; arguments as `show`."""
    shares, sure, walk = result.shares(), confidences(result), result.walk
    return {
        "picture": image,
        "size": list(result.size),
        "recipe": result.recipe,
        "labels": [
            {"id": index, "label": name, "share": shares[name], "confidence": sure.get(name)} for index, name in result.id2label.items()
        ],
        "walk": None if walk is None else {"steps": walk.steps, "bound": walk.bound, "outcome": walk.outcome},
        "seconds": {**result.seconds, **taken},
        "files": [str(path) for path in files],
    }


def show(image: str, result: Segmentation, files: Iterable[Path], taken: Mapping[str, float]) -> None:
    """Print one result for people.

    Args:
        image: how it is called.
        result: the result.
        files: what was written.
        taken: stage → seconds after those of the result.
    """
    from rich.text import Text

    out = console()
    height, width = result.size
    out.print(Text.assemble((image, "bold"), f"  {height} × {width}"), soft_wrap=True)
    out.print(_labels(result))
    out.print(_stages({**result.seconds, **taken}), soft_wrap=True)
    if result.walk is not None:
        walk = result.walk
        out.print(Text(f"  walk     {walk.steps} steps, {walk.outcome.replace('_', ' ')}, bound {walk.bound:.1e}"), soft_wrap=True)
    for path in files:
        out.print(Text(f"  wrote    {path}"), soft_wrap=True)
    out.print()


def plain_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table without lines around it; columns named in ``right`` are set to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _labels(result: Segmentation) -> Table:
    from rich.padding import Padding
    from rich.text import Text

    from nerveseg.masks.palette import wheel

    table = plain_table("", "label", "share", "confidence", "", right=("share", "confidence"))
    shares, sure = result.shares(), confidences(result)
    colours = wheel(len(result.labels), background=result.background).tolist()
    order = sorted(result.id2label, key=lambda at: (-shares[result.id2label[at]], at))
    for at in order[:_SHOWN]:
        name = result.id2label[at]
        share, colour = shares[name], "rgb({},{},{})".format(*colours[at])
        there = share > 0
        table.add_row(
            Text("██", style=colour),
            Text(name, style="" if there else "dim"),
            Text(_percent(share), style="" if there else "dim"),
            f"{sure[name]:.2f}" if name in sure else Text("–", style="dim"),
            Text("█" * round(_BAR * share), style=colour),
        )
    if len(order) > _SHOWN:
        table.add_row("", Text(f"and {len(order) - _SHOWN} more", style="dim"), "", "", "")
    ignored = float((result.segmentation == result.ignore_index).float().mean())
    if ignored > 0:
        table.add_row("", Text("not decided", style="dim"), Text(_percent(ignored), style="dim"), "", "")
    return Padding(table, (0, 0, 0, 2))  # type: ignore[return-value]


def _percent(share: float) -> str:
    return "0 %" if share == 0 else "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def _stages(seconds: Mapping[str, float]) -> Text:
    from rich.text import Text

    parts = ", ".join(f"{stage} {taken:.2f}" for stage, taken in seconds.items())
    return Text(f"  seconds  {sum(seconds.values()):.2f}  ({parts})")
