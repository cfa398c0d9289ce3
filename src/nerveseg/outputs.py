"""Output paths: an input is never overwritten, and an existing file only where the caller says so.

One rule for every verb that writes, asked twice: `check` refuses before any work, and inside `keeping` the same holds at the moment a
finished file takes its place (`put`), whatever came there in between. Files are told apart by device and number, not by name: a link, a
second name, a folder that links to another and a system that takes ``A`` for ``a`` are the file that they lead to.
"""

from __future__ import annotations

import errno
import filecmp
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from nerveseg.errors import OptionError, OutputError
from nerveseg.reprs import brief

__all__ = ["Inputs", "check", "inputs", "keeping", "key", "put", "refused", "told"]

Identity = tuple[int, int]
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.EACCES, errno.EINVAL}


@dataclass(frozen=True)
class Inputs:
    """Files that are read, and so never written.

    Attributes:
        files: device and number → the path by which it was named.
    """

    files: Mapping[Identity, Path] = field(default_factory=dict[Identity, Path])

    __repr__ = brief

    def named(self, path: Path) -> Path | None:
        """The input that a path leads to, or None."""
        found = _identity(path) if self.files else None
        return None if found is None else self.files.get(found)

    def __or__(self, other: Inputs) -> Inputs:
        return Inputs({**self.files, **other.files})


def inputs(*paths: str | Path | None) -> Inputs:
    """Inputs of what is there: files, and of folders the files that lie in them; None and what is not there are passed over."""
    found: dict[Identity, Path] = {}
    for path in (Path(given).expanduser() for given in paths if given is not None):
        for file in (path, *_inside(path)):
            identity = _identity(file)
            if identity is not None:
                found.setdefault(identity, file)
    return Inputs(found)


def check(targets: Iterable[Path], read: Inputs, *, overwrite: bool, advice: str = "Choose another place with -o") -> None:
    """Refuse targets that are an input, that are there already, or that two results would share.

    Args:
        targets: every file that will be written.
        read: every file that is read.
        overwrite: replace what is there; an input is refused even so.
        advice: how another place is chosen, for the message.

    Raises:
        OptionError: one of these; the message names the first.
    """
    seen: dict[str, Path] = {}
    for path in targets:
        given = read.named(path)
        if given is not None:
            raise OptionError(_over_input(path, given, advice))
        if not overwrite and os.path.lexists(path):
            raise OptionError(
                f"Got {path}, which is there already. Accepted is a place without it. {advice}, or add --overwrite to replace it."
            )
        first = seen.setdefault(key(str(path)), path)
        if first is not path:
            raise OptionError(f"Got {first} and {path} for two results. Accepted is a name for each. {advice}, or rename an image.")


@dataclass(frozen=True)
class _Rule:
    read: Inputs
    overwrite: bool
    ours: Collection[Path]
    claim: Callable[[], None] | None


_RULE: ContextVar[_Rule | None] = ContextVar("nerveseg-outputs", default=None)


@contextmanager
def keeping(read: Inputs, *, overwrite: bool, ours: Collection[Path] = (), claim: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold every `put` of the block, in this thread, to the rule; inside another one both hold.

    Args:
        read: files that are never written.
        overwrite: replace other files that are there.
        ours: files that may be replaced without that: an earlier start made them.
        claim: called when places were found free, before the first is taken: who is killed right then can know them as its own later.
    """
    outer = _RULE.get()
    rule = _Rule(read, overwrite, ours, claim)
    if outer is not None:
        rule = _Rule(read | outer.read, overwrite and outer.overwrite, (*ours, *outer.ours), claim or outer.claim)
    token = _RULE.set(rule)
    try:
        yield
    finally:
        _RULE.reset(token)


def put(*finished: tuple[Path, Path]) -> None:
    """Let finished drafts take their places, all or none of them; where the very same bytes are there already, they stay.

    Args:
        finished: a draft and its place, each; placed in this order.

    Raises:
        OutputError: a place is an input's, or another file's that may not be replaced. OSError: as the system says.
    """
    rule = _RULE.get()
    if rule is None:
        for draft, path in finished:
            draft.replace(path)
        return
    free = [_is_free(rule, draft, path) for draft, path in finished]
    if rule.claim is not None and any(free):
        rule.claim()
    for (draft, path), new in zip(finished, free, strict=True):
        if not new:
            draft.replace(path)
        elif not _put_new(draft, path) and not _same(draft, path):
            raise _taken(path)


def _is_free(rule: _Rule, draft: Path, path: Path) -> bool:
    """Whether a place is to be taken as a new one; False: what is there may be replaced."""
    given = rule.read.named(path)
    if given is not None:
        raise OutputError(_over_input(path, given, "Choose another place for the results"))
    if rule.overwrite or path in rule.ours:
        return False
    if os.path.lexists(path) and not _same(draft, path):
        raise _taken(path)
    return True


def _taken(path: Path) -> OutputError:
    return OutputError(
        f"Got {path}, which is there already and was not made by this run. Accepted is a place without it. Move it away, or add "
        "--overwrite to replace it."
    )


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Make what the system refuses in the block (a full disk, a missing right) an error of ours that names the path.

    Raises:
        OutputError: for any `OSError` of the system.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, OutputError):
            raise
        raise refused(path, error) from error


def refused(path: Path, error: OSError) -> OutputError:
    """What the system says against a file, as an error of ours."""
    reason = error.strerror or error
    if error.errno == errno.ENAMETOOLONG:
        return OutputError(f"Got {path}, which cannot be written ({reason}). Accepted are names that the disk takes. Rename the image.")
    return OutputError(f"Got {path}, which cannot be written ({reason}). Accepted is a place with room. Check space and rights.")


def key(path: str) -> str:
    """What file systems that fold case or accents keep of a path."""
    return unicodedata.normalize("NFC", path).casefold()


def _put_new(draft: Path, path: Path) -> bool:
    """Whether the draft took a place that nothing was in, without a moment in which another one could come there."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            return False
        draft.replace(path)
    return True


def _same(draft: Path, path: Path) -> bool:
    return path.is_file() and filecmp.cmp(draft, path, shallow=False)


def _over_input(path: Path, given: Path, advice: str) -> str:
    return f"Got {path} for a result, which is the input {given}. Accepted is a place that nothing is read from. {advice}."


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except (OSError, ValueError):  # not there, a link to itself, a name that the system does not take
        return None
    return found.st_dev, found.st_ino


def _inside(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.iterdir() if entry.is_file()] if path.is_dir() else []
    except OSError:
        return []
