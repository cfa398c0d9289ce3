"""Label one image of a batch. A separate thread writes the files, so that the networks do not wait for the disk."""

from __future__ import annotations

import errno
import json
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from nerveseg import outputs
from nerveseg.batch import earlier
from nerveseg.batch.images import Found, stem
from nerveseg.batch.job import Job
from nerveseg.batch.output_folder import Home
from nerveseg.batch.output_folder import place as at
from nerveseg.errors import NerveSegError, OutputError, RunError
from nerveseg.image import LoadedImage
from nerveseg.image.readers import Readers
from nerveseg.reprs import brief
from nerveseg.runs.worker import Record
from nerveseg.segmentation import Segmentation
from nerveseg.segmenter import Segmenter
from nerveseg.words.vocabulary import Background, Vocabulary
from nerveseg.writers import base

__all__ = ["Labelling", "Make"]

_SLOW = 4  # images that take long to decode, beside one a core
_SIZE = 16  # digits of an image's digest that a line keeps
# The place is at fault, not the image: with the next one it would be the same.
_PLACE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENODEV, errno.ESTALE, errno.EFBIG}


@dataclass(frozen=True)
class Make:
    """Makes a worker for a job, in whatever process it is called.

    Attributes:
        job: what is asked for.
        root: the folder that items are relative to.
        out: the output folder.
        overwrite: replace files that are there.
        state: where items are claimed before their files take free places; None: nowhere.
        own: items whose files, where they are there, this batch made.
    """

    job: Job
    root: Path
    out: Path
    overwrite: bool = False
    state: Path | None = None
    own: frozenset[str] = frozenset()

    __repr__ = brief

    def __call__(self) -> Labelling:
        """A worker that has loaded nothing yet."""
        return Labelling(self.job, Found(self.root, ()), Home(self.out), self)


class Labelling:
    """Labels images and writes their masks; the networks are loaded by `start`, once."""

    def __init__(self, job: Job, found: Found, home: Home, terms: Make) -> None:
        self._job = job
        self._found = found
        self._home = home
        self._terms = terms
        self._segmenter: Segmenter
        self._vocabulary: Vocabulary
        self._background: Background | None
        self._writer: ModuleType
        self._options: Any
        self._common: Any = None
        self._hand: ThreadPoolExecutor
        self._readers: Readers

    def start(self) -> None:
        """Load the networks. Images are read in processes of their own, so that one bad file ends neither this one nor the batch."""
        self._readers = Readers(os.cpu_count() or 1, _SLOW)
        self._segmenter = self._job.load()
        self._vocabulary = self._job.vocabulary
        self._background = Background.parse(self._job.background, self._vocabulary)
        self._writer, self._options = self._job.writes, self._job.writer_options
        self._common = earlier.read_common(self._home.common)
        threads = torch.get_num_threads()
        self._hand = ThreadPoolExecutor(1, thread_name_prefix="nerveseg-write", initializer=torch.set_num_threads, initargs=(threads,))

    def read(self, item: str) -> LoadedImage:
        """An image."""
        return self._readers.read(self._found.path(item), bands=self._job.bands, value_range=self._job.value_range)

    def work(self, item: str, read: LoadedImage) -> Future[Record]:
        """Label it, and have it written."""
        job = self._job
        try:
            encoding = self._segmenter.encode(read, seed=job.seed, tile=job.tile, overlap=job.overlap)
            result = self._segmenter.decode(encoding, self._vocabulary, background=self._background)
            if job.abstain is not None:
                result = result.abstain(job.abstain)
        except NerveSegError:
            raise
        except (RuntimeError, MemoryError, OSError) as error:
            raise _strange(self._found.path(item), error) from error
        return self._hand.submit(self._write, item, result)

    def stop(self) -> None:
        """Write what waits."""
        self._hand.shutdown(wait=True)
        self._readers.close()

    def _write(self, item: str, result: Segmentation) -> Record:
        started = time.perf_counter()
        out, place = self._home.out, stem(item)
        line = {"picture": result.image.sha256[:_SIZE], "size": list(result.size)}
        try:
            if base.is_collection(self._writer):
                with self._keeping(item):
                    part = self._writer.part(result, out, place, self._options)
                line["bytes"] = earlier.sized(out, part["files"])
                line["part"] = self._slim(part)
            else:
                path = at(out, item, self._writer.suffix)
                path.parent.mkdir(parents=True, exist_ok=True)
                with self._keeping(item):
                    written = self._writer.write(result, path, self._options)
                line["files"] = [file.relative_to(out).as_posix() for file in written]
                line["bytes"] = earlier.sized(out, line["files"])
        except OutputError as error:
            if getattr(error.__cause__, "errno", None) in _PLACE:
                raise
            raise RunError(str(error)) from error
        except OSError as error:
            fault = OutputError if error.errno in _PLACE else RunError
            reason = error.strerror or error
            raise fault(
                f"Got {out / place}, which cannot be made ({reason}). Accepted is a place with room. Check space and rights."
            ) from error
        except (RuntimeError, MemoryError) as error:
            raise _strange(self._found.path(item), error) from error
        stages = {stage: seconds for stage, seconds in result.seconds.items() if stage != "read"}
        return Record(line, {**stages, "write": time.perf_counter() - started})

    def _keeping(self, item: str) -> AbstractContextManager[None]:
        """Hold an image's files to the rule of `nerveseg.outputs`; against all other inputs they were checked at the start."""
        terms, state = self._terms, self._terms.state
        claim = None if state is None else partial(earlier.claim, state, item)
        return outputs.keeping(outputs.inputs(self._found.path(item)), overwrite=terms.overwrite or item in terms.own, claim=claim)

    def _slim(self, part: dict[str, Any]) -> dict[str, Any]:
        """A part without what all parts share, which goes into a file of its own before the first part counts."""
        if "shared" not in part:
            return part
        shared = json.loads(json.dumps(base.finite(part["shared"])))
        if self._common is None:
            with base.replacing(self._home.common) as (draft,):  # every worker writes the same
                draft.write_text(base.to_json(shared), encoding="utf-8")
            self._common = shared
        return {name: value for name, value in part.items() if name != "shared"} if shared == self._common else part


def _strange(path: Path, error: BaseException) -> RunError:
    text = str(error).partition("\n")[0]
    return RunError(
        f"Got {path}, on which the work failed ({type(error).__name__}: {text}). Accepted is an image of usual size. Look at it."
    )
