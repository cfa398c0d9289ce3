"""Lock a folder for one process; the lock is released when the process dies."""

from __future__ import annotations

import errno
import importlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from nerveseg import outputs
from nerveseg.errors import OutputError, RunError
from nerveseg.parse import from_json

__all__ = ["NAME", "locked"]

NAME = "run.lock"
_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder alone.

    The file says who holds it. The system lets go of the lock when that process ends, however it ends, so a file that a killed process
    left is taken over. On file systems without locks, whether the process that the file names is alive decides.

    Raises:
        RunError: another process holds the folder. OutputError: the file cannot be made.
    """
    path = folder / NAME
    handle = _taken(path)
    try:
        with outputs.told(path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        yield
    finally:
        with suppress(OSError):  # a disk that became read-only keeps the file, which nobody holds then
            path.unlink(missing_ok=True)  # still held, so nobody else's
        os.close(handle)


def _taken(path: Path) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"Got {path}, which cannot be made ({reason}). Accepted is a folder to write in. Check rights.") from error
        try:
            _take(handle, path)
            if _is_still(path, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder ended and took the file away between the two lines above: there may be a new one


def _take(handle: int, path: Path) -> None:
    fcntl = _fcntl()
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _held(path, _holder(handle)) from error
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise outputs.refused(path, error) from error
        else:
            return
    holder = _holder(handle)
    if holder and (holder.get("host") != socket.gethostname() or _alive(holder.get("pid"))):
        raise _held(path, holder)


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _holder(handle: int) -> dict[str, Any]:
    try:
        return dict(from_json(os.pread(handle, 4096, 0)))
    except (ValueError, TypeError, OSError):
        return {}


def _held(path: Path, holder: dict[str, Any]) -> RunError:
    who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown machine')}"
    return RunError(
        f"Got {path.parent}, on which {who} is at work. Accepted is one process a folder. Wait for it, or stop it; where it is certainly "
        f"gone, delete {path}."
    )


def _alive(pid: Any) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fcntl() -> ModuleType | None:
    try:
        return importlib.import_module("fcntl")
    except ImportError:  # not a POSIX system
        return None
