"""State shared by the routes: workers, encodings, metrics, limits, and the number of open requests."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from nerveseg import registry
from nerveseg.errors import OptionError, RunError
from nerveseg.image import LoadedImage
from nerveseg.image.readers import Readers
from nerveseg.segmenter import Segmenter
from nerveseg.server.deadline import Overdue
from nerveseg.server.forms import Form
from nerveseg.server.handles import Handles
from nerveseg.server.limits import Limits
from nerveseg.server.metrics import Metrics
from nerveseg.server.pool import Done, Full, Job, Pool
from nerveseg.server.problems import Problem
from nerveseg.server.settings import Settings

__all__ = ["Service"]

_LOG = logging.getLogger("nerveseg.server")

T = TypeVar("T")

_TOGETHER = 4  # images in a batch on an accelerator
_HELPERS = 2  # threads that read words and write answers beside the workers
_SLOW = 4  # images that take long to decode, beside the others


class Service:
    """One service. Its counts are for the event loop's thread.

    Args:
        segmenters: one a device, of one recipe.
        limits: what requests may take.
        token: that clients must bring; None for none.
        hosts: names of this service that a ``Host`` header may have where there is no token; empty for any.
        public: names under which a proxy shows it, whose pages may ask as well.

    Raises:
        OptionError: limits out of their range, or no segmenter.
    """

    def __init__(
        self,
        segmenters: Sequence[Segmenter],
        limits: Limits | None = None,
        *,
        token: str | None = None,
        hosts: frozenset[str] = frozenset(),
        public: frozenset[str] = frozenset(),
    ) -> None:
        limits = limits or Limits()
        registry.check(limits, "limits")
        if not segmenters:
            raise OptionError("Got no segmenter for the service. Accepted is one a device. Make one with Segmenter.from_pretrained.")
        self.segmenters, self.limits, self.token = tuple(segmenters), limits, token
        self.hosts, self.public = hosts, public
        self.settings = Settings.of(segmenters[0].recipe)
        self.metrics = Metrics()
        # On the CPU a shared pass saves nothing, and each answer then is to the bit that of the call alone.
        batch = limits.batch or (1 if segmenters[0].device.type == "cpu" else _TOGETHER)
        self.pool = Pool(segmenters, limits.queue, batch, self.metrics)
        self.handles = Handles(limits.handle_seconds, limits.handles)
        self.readers = Readers(limits.readers, _SLOW)
        self.draining = False
        self.open = 0
        self._bodies = 0
        self._helpers: ThreadPoolExecutor | None = None
        self._waiting: ThreadPoolExecutor | None = None
        self.metrics.watch("queue_jobs", "Jobs that wait.", lambda: self.pool.waiting)
        self.metrics.watch("readers_busy", "Images that are decoded.", lambda: self.readers.readings.busy)
        self.metrics.watch("readers_slow", "Images that take long to decode.", lambda: self.readers.readings.slow)
        self.metrics.watch("readers_waiting", "Images that wait to be decoded.", lambda: self.readers.readings.waiting)
        self.metrics.watch("readers_ended", "Reading processes that had to be ended, or died.", lambda: self.readers.readings.ended)
        self.metrics.watch("handles", "Encodings that are kept.", lambda: len(self.handles))
        self.metrics.watch("handles_bytes", "Bytes of them.", lambda: self.handles.bytes)

    @property
    def busy(self) -> bool:
        """Whether there is no room for one request more that brings a body: said before the body is read."""
        return self._bodies >= self.limits.open or self.pool.waiting >= self.limits.queue

    def enter(self, *, with_body: bool) -> None:
        """Count a request in."""
        self.open += 1
        self._bodies += with_body
        self.metrics.open.set(self.open)

    def leave(self, *, with_body: bool) -> None:
        """Count it out."""
        self.open -= 1
        self._bodies -= with_body
        self.metrics.open.set(self.open)

    def start(self) -> None:
        """Start the workers, also after a stop."""
        if self.readers.closed:
            self.readers = Readers(self.limits.readers, _SLOW)
        self._helpers = ThreadPoolExecutor(_HELPERS, thread_name_prefix="nerveseg-helper")
        self._waiting = ThreadPoolExecutor(self.limits.open, thread_name_prefix="nerveseg-picture")
        self._waiting.submit(self._warm)
        self.pool.start()

    def _warm(self) -> None:
        """One reading process ahead. Where none comes up, health says so."""
        try:
            self.readers.warm()
        except RunError as error:
            if not self.readers.closed:
                _LOG.error("%s", error)

    def stop(self, seconds: float = 5.0) -> None:
        """End the workers, and let encodings go."""
        self.pool.stop(seconds)
        self.readers.close()
        for threads in (self._helpers, self._waiting):
            if threads is not None:
                threads.shutdown(wait=False, cancel_futures=True)

    async def beside(self, work: Callable[[], T]) -> T:
        """Do work that is neither the device's nor the event loop's."""
        return await asyncio.get_running_loop().run_in_executor(self._helpers, work)

    async def read(self, form: Form, until: float, request: Request) -> LoadedImage:
        """Decode a form's image in a reading process, as long as the client waits for it and until its time is up.

        Raises:
            ImageError: no image, or one that cannot be read. Overdue, ClientDisconnect, RunError.
        """
        gone = threading.Event()

        def read() -> LoadedImage:
            return self.readers.read(form.data, max_pixels=self.limits.max_pixels, name=form.name, until=until, gone=gone.is_set)

        result = asyncio.get_running_loop().run_in_executor(self._waiting, read)
        leaving = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({result, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise ClientDisconnect
            return result.result()
        except TimeoutError as error:
            raise Overdue from error
        finally:
            gone.set()
            leaving.cancel()
            result.cancel()

    async def do(self, job: Job, request: Request) -> Done:
        """Have a job done, as long as the client waits for it.

        Raises:
            Problem: 429. ClientDisconnect: the client went. And whatever the job raises.
        """
        try:
            result = asyncio.wrap_future(self.pool.submit(job))
        except Full as full:
            raise self.full() from full
        leaving = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({result, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise ClientDisconnect
            return result.result()
        finally:
            job.gone.set()  # where it is done already, this does nothing
            leaving.cancel()
            result.cancel()

    def full(self) -> Problem:
        """What to say when there is no room."""
        wait = self.pool.wait()
        return Problem(
            429,
            "full",
            f"Got more requests than there is room for. Accepted are {self.limits.queue} waiting. Try again in {wait} seconds.",
            headers={"Retry-After": str(wait)},
        )

    async def sweep(self) -> None:
        """Let encodings go when their time is over, whether or not somebody asks."""
        while True:
            await asyncio.sleep(min(30.0, self.limits.handle_seconds / 2))
            self.handles.sweep()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        await asyncio.sleep(0)
