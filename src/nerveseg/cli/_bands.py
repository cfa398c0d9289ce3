"""``--bands 4,3,2 --range 0,3000`` → what `nerveseg.load_image` takes."""

from __future__ import annotations

from typing import Any

from nerveseg.errors import OptionError

__all__ = ["read_bands"]


def read_bands(bands: str | None, value_range: str | None) -> dict[str, Any]:
    """Read both options, and check them before any image is read.

    Raises:
        OptionError: no numbers, or numbers that are no bands and no range.

    >>> read_bands("4,3,2", "0, 3000")
    {'bands': (4, 3, 2), 'value_range': (0.0, 3000.0)}
    """
    from nerveseg.image.samples import Choice

    try:
        chosen = None if bands is None else tuple(int(part) for part in bands.split(","))
    except ValueError as error:
        raise OptionError(f"Got --bands {bands!r}. Accepted are three numbers from 1, or one. Write --bands 4,3,2.") from error
    try:
        low_high = None if value_range is None else tuple(float(part) for part in value_range.split(","))
    except ValueError as error:
        raise OptionError(f"Got --range {value_range!r}. Accepted are two numbers, the smaller one first. Write --range 0,3000.") from error
    made = Choice(chosen, low_high)  # type: ignore[arg-type]
    return {"bands": made.bands, "value_range": made.value_range}
