"""Figures for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from sync_server.http.routing import Operation

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry for each server, so that two in one process (tests) do not share figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "sync_requests_total", "Requests answered.", ["operation", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "sync_request_seconds",
            "Time to the beginning of the answer; waiting for changes and reading bodies included.",
            ["operation"],
            buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60),
            registry=self.registry,
        )
        self.waiting = Gauge("sync_waiting", "Devices that wait for changes.", registry=self.registry)
        self.free_bytes = Gauge("sync_free_bytes", "Free space on the disk of the data folder.", registry=self.registry)
        self.writable = Gauge("sync_writable", "1 when the store takes writes.", registry=self.registry)
        self.checked = Gauge(
            "sync_last_check_timestamp_seconds",
            "When the contents were last verified; 0: never.",
            registry=self.registry,
        )
        self.check_ok = Gauge("sync_last_check_ok", "1 when that found nothing wrong.", registry=self.registry)
        self.logins = Counter("sync_logins_total", "Logins, by their end.", ["result"], registry=self.registry)
        self.bytes_in = Counter("sync_received_bytes_total", "Bytes of contents received.", registry=self.registry)
        self.bytes_out = Counter("sync_sent_bytes_total", "Bytes of contents sent.", registry=self.registry)
        # A label lookup costs more than the increment.
        self._cells: dict[tuple[str, int], Counter] = {}
        self._times: dict[str, Histogram] = {}

    def count(self, operation: Operation | None, status: int, seconds: float) -> None:
        """Count one answered request."""
        name = operation.name if operation else "unknown"
        cell = self._cells.get((name, status))
        if cell is None:
            cell = self._cells[name, status] = self._requests.labels(name, str(status))
            self._times.setdefault(name, self._seconds.labels(name))
        cell.inc()
        self._times[name].observe(seconds)

    def text(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self.registry)
