"""Where the recipe lies: what the entry point in ``nerveseg.recipes`` names."""

from pathlib import Path

palette = Path(__file__).with_name("palette.toml")
