"""The command line: one file a verb. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run ``nerveseg``; exits 0 good, 1 failed, 2 usage, 3 some images failed."""
    from nerveseg.cli._app import app

    app(prog_name="nerveseg")
