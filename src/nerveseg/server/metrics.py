"""Counts and times for Prometheus, in a registry of the service's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

__all__ = ["MEDIA", "Metrics"]

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


@dataclass(eq=False)
class Metrics:
    """What is counted. Paths are those of the routes, never what a client wrote, so that their number is bounded.

    Attributes:
        registry: of this service alone.
    """

    registry: CollectorRegistry = field(default_factory=lambda: CollectorRegistry(auto_describe=True))

    def __post_init__(self) -> None:
        own = self.registry
        self.requests = Counter("nerveseg_requests", "Requests answered.", ("method", "path", "status"), registry=own)
        self.seconds = Histogram("nerveseg_request_seconds", "From head to answer.", ("path",), buckets=_SECONDS, registry=own)
        self.waited = Histogram("nerveseg_wait_seconds", "In the queue.", buckets=_SECONDS, registry=own)
        self.worked = Histogram("nerveseg_work_seconds", "On a device, one batch.", buckets=_SECONDS, registry=own)
        self.batches = Histogram("nerveseg_batch_pictures", "Images encoded together.", buckets=(1, 2, 4, 8, 16, 32), registry=own)
        self.open = Gauge("nerveseg_requests_open", "Requests accepted and not answered.", registry=own)
        ProcessCollector(registry=own)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when somebody looks."""
        Gauge(f"nerveseg_{name}", text, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)
