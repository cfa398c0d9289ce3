"""Start a batch, or go on with it. Shards share a folder and nothing else; whichever ends last puts them together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nerveseg import outputs, runs
from nerveseg.batch import earlier
from nerveseg.batch.finish import bad_of, finish, tidy
from nerveseg.batch.images import Found
from nerveseg.batch.job import Job, identity
from nerveseg.batch.output_folder import Home, check_start, clear_drafts
from nerveseg.batch.worker import Make
from nerveseg.errors import MissingExtra, OptionError, OutputError, RunError, WeightsError, WeightsNotFound
from nerveseg.outputs import Inputs
from nerveseg.reprs import brief
from nerveseg.runs.lock import locked
from nerveseg.runs.plan import differs
from nerveseg.runs.run import make_folder

__all__ = ["Ran", "run"]

_FATAL = (OutputError, MissingExtra, WeightsNotFound, WeightsError)  # no other image would fare better
_PATIENCE = 600.0  # seconds that a shard waits for another one that puts them together


@dataclass(frozen=True)
class Ran:
    """How a batch, or a shard of it, ended.

    Attributes:
        out: the folder.
        done: images labelled now.
        before: images labelled at earlier starts.
        bad: images that could not be used, of this shard, or of all once they are together; tried again at the next start.
        waiting: shards that are not finished yet; the joined files and the record come with the last.
    """

    out: Path
    done: int
    before: int
    bad: tuple[runs.Bad, ...]
    waiting: tuple[tuple[int, int], ...] = ()

    __repr__ = brief


@dataclass(frozen=True)
class _How:
    """What `runs.run` is given, whatever the folder."""

    make: Make
    read: Inputs
    given: Mapping[str, Any]

    def __call__(self, plan: runs.Plan, folder: Path, made: frozenset[str] = frozenset()) -> runs.Summary:
        """Do what is left in a state folder; ``made``: items whose files are this batch's own, beside those that the folder tells of."""
        earlier.reopen(folder, self.make.out)
        make = replace(self.make, state=folder.resolve(), own=made | earlier.own(folder))
        with _threads_as_before():
            return runs.run(plan, make, folder, fatal=_FATAL, **self.given)


def run(
    job: Job,
    found: Found,
    out: str | Path,
    *,
    shard: tuple[int, int] = (0, 1),
    resume: bool = False,
    overwrite: bool = False,
    read: Iterable[str | Path] = (),
    engine: str = "local",
    workers: int = 1,
    prefetch: int = 4,
    skip_bad: bool = True,
    said: Callable[[int, int], None] | None = None,
    engine_options: Mapping[str, Any] | None = None,
) -> Ran:
    """Label images into a folder.

    Args:
        job: what is asked for.
        found: the images.
        out: made if it is not there.
        shard: (i, n): only images whose number leaves i when divided by n. All shards write into one folder; the last one to end joins.
        resume: go on where the folder's batch was stopped, bad images included; files of it that are gone or cut are made again.
            Without it a folder with a batch is refused.
        overwrite: replace files that are there. Of a batch that is there (without ``resume``) everything that it made is taken away, and
            this one begins. An input is never replaced.
        read: other files that are read, such as a list of the images or of the labels; they are never replaced either.
        engine: "local" or "ray".
        workers: that share the images, each with its own networks. Larger: faster, more memory.
        prefetch: images that each has in hand beside the one in its networks: read ahead, or being written.
        skip_bad: go on after an image that cannot be used; a full disk and missing weights stop the batch even so.
        said: called as ``said(done, of)`` after each image.
        engine_options: knobs of the engine.

    Raises:
        OptionError: files in the way, an input where a result would go, or a batch that is there without ``resume``. RunError: the folder
        holds another batch, or another process is at work on it. The errors of loading; those of an image without ``skip_bad``.
    """
    place = Path(out)
    job.check(place)
    home = Home(place)
    known = outputs.inputs(*(found.path(item) for item in found.items), *read, *_read_by(job))
    anew = _check_start(home, shard, found, job, resume=resume, overwrite=overwrite)
    mine = found.items[shard[0] :: shard[1]]
    ours = home.begun and not anew and (resume or shard[1] == 1)
    check_start(found, place, mine, job, known, overwrite=overwrite, begun=ours)
    plan = runs.Plan(found.items, identity(job), shard=shard)
    options = {"engine": engine, "workers": workers, "prefetch": prefetch, "skip_bad": skip_bad, "said": said}
    make = Make(job, found.root, place.resolve(), overwrite=overwrite)
    how = _How(make, known, {**options, "engine_options": engine_options})
    make_folder(home.state)
    if anew:
        with locked(home.state):
            earlier.discard(home, known)
    one = shard[1] == 1 or home.together
    ran = _alone(job, home, plan, how) if one else _joined(job, home, plan, how(plan, home.shard(shard)), how)
    unread = tuple(runs.Bad(item, "ImageError", f"{reason}.") for item, reason in found.unread)
    return replace(ran, bad=(*ran.bad, *unread))


def _read_by(job: Job) -> list[str]:
    """What a job names that may be a file or a folder of them: its recipe, and values of its knobs."""
    return [str(job.recipe), *(value for value in job.settings.values() if isinstance(value, str))]


def _alone(job: Job, home: Home, plan: runs.Plan, how: _How) -> Ran:
    """All images by this process: a batch without shards, or one whose shards are together already."""
    plan = runs.Plan(plan.items, plan.identity)
    with locked(home.state):
        if home.record.is_file():
            bad = bad_of(home)
            _check_same(home, plan)
            tidy(home)
            if not bad and earlier.is_whole(home, bad):
                return Ran(home.out, 0, len(plan.items), ())
            with outputs.told(home.record):
                home.record.replace(home.before)  # until the batch is whole again, it says what is the batch's own
        made: frozenset[str] = frozenset()
        if home.before.is_file():
            known = earlier.read_record(home.before)
            made = frozenset(plan.items) - {one["item"] for one in known["bad"]}
        clear_drafts(home.out)
        summary = how(plan, home.whole, made)
        finish(job, home, summary.bad, how.read, overwrite=how.make.overwrite)
    return Ran(home.out, summary.done, summary.skipped, summary.bad)


def _joined(job: Job, home: Home, plan: runs.Plan, summary: runs.Summary, how: _How) -> Ran:
    """Put the shards together, if this one was the last to end."""
    with _waited_for(home):
        if home.record.is_file():  # another one was last, and quicker
            return Ran(home.out, summary.done, summary.skipped, bad_of(home))
        count = plan.shard[1]
        there = home.shards()
        open_ones = [(at, count) for at in range(count) if (at, count) not in there or not (there[at, count] / runs.results.NAME).is_file()]
        if open_ones:
            return Ran(home.out, summary.done, summary.skipped, summary.bad, tuple(open_ones))
        together = runs.merge([there[at, count] for at in range(count)], home.whole)
        finish(job, home, together.bad, how.read, overwrite=how.make.overwrite)
    return Ran(home.out, summary.done, summary.skipped, together.bad)


def _check_start(home: Home, shard: tuple[int, int], found: Found, job: Job, *, resume: bool, overwrite: bool) -> bool:
    """Refuse a folder whose batch is not to be gone on with; gives whether the batch there gives way to a new one."""
    if not home.begun:
        return False
    others = home.shards()
    counts = {count for _, count in others}
    if overwrite and not resume and shard[1] == 1:
        return True
    if counts and not home.together and counts != {shard[1]}:
        raise OptionError(
            f"Got the shard {shard[0]}/{shard[1]} for {home.out}, which was begun in {min(counts)} shards. Accepted are those. "
            f"Add --shard I/{min(counts)}, or choose another folder."
        )
    if resume:
        return False
    if home.record.is_file():
        bad = len(bad_of(home))
        more = f"Add --resume to try its {bad} bad images again, or choose another folder." if bad else "Choose another folder."
        raise OptionError(f"Got {home.out}, which holds a finished batch. Accepted is a new folder. {more}")
    if shard[1] == 1 or shard in others:
        raise OptionError(
            f"Got {home.out}, which holds a batch that is not finished. Accepted is a new folder, or the same batch with --resume. "
            "Add --resume to go on where it stopped, or choose another folder."
        )
    return False


def _check_same(home: Home, plan: runs.Plan) -> None:
    there = runs.read(home.whole)
    key = differs(there.identity, plan.identity) or (None if there.items == plan.items else "pictures")
    if key is not None:
        raise RunError(
            f"Got a batch that differs from the finished one in {home.out} in {key!r}. Accepted is the same batch. Choose another folder, "
            "or repeat the settings of the first start."
        )


@contextmanager
def _waited_for(home: Home) -> Iterator[None]:
    """Hold the state alone; another shard may be putting all together just now, which is waited for."""
    deadline = time.monotonic() + _PATIENCE
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(locked(home.state))
                break
            except RunError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield


@contextmanager
def _threads_as_before() -> Iterator[None]:
    """A worker in this process sets torch's threads; the caller's come back."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
