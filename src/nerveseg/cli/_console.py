"""Output of the command line: results on stdout, messages on stderr, errors in one line, libraries' progress bars and logs silenced."""

from __future__ import annotations

import errno
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from nerveseg import errors
from nerveseg.cli._plain import escaped, kept_plain, shown

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "FAILED",
    "SOME_FAILED",
    "USAGE",
    "code_of",
    "conclude",
    "console",
    "fail",
    "guarded",
    "json_line",
    "note",
    "quiet",
    "say",
    "still",
    "talk",
    "waiting",
]

FAILED, USAGE, SOME_FAILED = 1, 2, 3
_USAGE_ERRORS = (errors.LabelError, errors.OptionError, errors.RecipeError, errors.RegistryError)
_WIDE = 160
_SHOWN = 20  # failed images that are named on the terminal
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}  # the place is at fault, not the program
_NOISY = ("transformers", "diffusers", "huggingface_hub", "accelerate", "PIL", "matplotlib")

P = ParamSpec("P")
R = TypeVar("R")


def console() -> Console:
    """Standard output, for results."""
    from rich.console import Console

    # A file or a pipe has no width: wide enough that tables are not folded.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE
    return kept_plain(Console(highlight=False, emoji=False, markup=False, width=width))


def talk() -> Console:
    """Standard error, for everything else."""
    from rich.console import Console

    return kept_plain(Console(stderr=True, highlight=False, emoji=False, markup=False))


def say(text: object, *, lines: bool = False, end: str = "\n") -> None:
    """Print a result on stdout, control characters spelled out.

    Args:
        text: one line.
        lines: the text has lines of its own.
        end: what comes after it.
    """
    typer.echo(shown(str(text), lines=lines) + end, nl=False)


def note(text: str, *, style: str = "yellow", lead: str = "note") -> None:
    """Say one line on stderr; never wrapped, so that it stays one line in a log."""
    from rich.text import Text

    talk().print(Text.assemble((f"{lead}: ", f"bold {style}"), (" ".join(text.split()), "")), soft_wrap=True)


def fail(text: str) -> None:
    """Say what went wrong in one red line on stderr."""
    from rich.text import Text

    talk().print(Text(f"error: {' '.join(text.split())}", style="red"), soft_wrap=True)


def code_of(error: errors.NerveSegError) -> int:
    """The exit code that an error means: 2 where the command was wrong, 1 where the work failed."""
    return USAGE if isinstance(error, _USAGE_ERRORS) else FAILED


def guarded(verb: Callable[P, R]) -> Callable[P, R]:
    """Wrap a verb: our own errors become one line and an exit code, anything else is a bug and keeps its traceback."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with quiet():
                return verb(*args, **kwargs)
        except errors.NerveSegError as error:
            fail(str(error))
            raise typer.Exit(code_of(error)) from error
        except KeyboardInterrupt as stop:
            fail("Stopped.")
            raise typer.Exit(130) from stop
        except BrokenPipeError as gone:  # `nerveseg … | head`: nobody reads on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILED) from gone
        except OSError as error:
            if error.errno not in _DISK:
                raise
            where = f" {error.filename}" if error.filename else ""
            fail(
                f"Got a disk that takes no more{where} ({error.strerror}). Accepted is one with room and rights. Make room, and try again."
            )
            raise typer.Exit(FAILED) from error

    return run


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' bars, advice and warnings; nerveseg's own warnings become notes on stderr, each once.

    Python's -W, or PYTHONWARNINGS, brings the libraries' warnings back.
    """
    # Read when the libraries are first imported, which is later than this.
    for name, value in (("HF_HUB_DISABLE_TELEMETRY", "1"), ("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")):
        os.environ.setdefault(name, value)
    levels = {name: logging.getLogger(name).level for name in _NOISY}
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
        text = str(message)
        ours = category.__module__.partition(".")[0] == "nerveseg"
        if text not in said and (ours or sys.warnoptions):
            said.add(text)
            note(text if ours else f"{category.__name__}: {text} ({filename}:{lineno})")

    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("always")
            warnings.showwarning = show
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def still() -> None:
    """Take the libraries' progress bars away; they must be imported for it, so call this where they are needed anyway."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show a spinner on stderr while something takes its time; silent when stderr is not a terminal."""
    from rich.text import Text

    terminal = talk()
    if not terminal.is_terminal:
        yield
        return
    with terminal.status(Text(shown(text))):
        yield


@contextmanager
def counting(rounds: Mapping[str, int]) -> Iterator[Callable[[str, int], None]]:
    """Show one progress bar a round on stderr; gives ``said(round, done)``. Silent without a terminal."""
    from rich.markup import escape
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    terminal = talk()
    with Progress(*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn(), console=terminal,
                  disable=not terminal.is_terminal) as bars:  # fmt: skip
        tasks = {name: bars.add_task(escape(shown(name)), total=total) for name, total in rounds.items()}
        yield lambda name, done: bars.update(tasks[name], completed=done)


def conclude(failed: Sequence[tuple[str, str]], total: int, *, lead: str = "failed", rest: str = "") -> None:
    """Name the images that failed, and leave with what that means: 1 where all did, 3 where some did; nothing where none did.

    Args:
        failed: name and message of each.
        total: of how many.
        lead: what the lines begin with.
        rest: where the names are that are too many for a terminal.
    """
    if not failed:
        return
    for name, message in failed[:_SHOWN]:
        note(f"{name}: {message}" if message else name, style="red", lead=lead)
    if len(failed) > _SHOWN:
        note(f"{len(failed) - _SHOWN} more{'; ' if rest else ''}{rest}", style="red", lead=lead)
    raise typer.Exit(FAILED if len(failed) >= total else SOME_FAILED)


def json_line(content: dict[str, Any]) -> None:
    """Print one JSON object as one line on stdout; infinities become null."""
    import json
    import math

    def plain(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, dict):
            return {str(key): plain(part) for key, part in value.items()}
        return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value

    sys.stdout.write(escaped(json.dumps(plain(content), ensure_ascii=False, allow_nan=False)) + "\n")
    sys.stdout.flush()
