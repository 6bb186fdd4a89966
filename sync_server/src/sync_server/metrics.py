"""Figures for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from sync_server.http.routing import Operation

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60)


@dataclass(slots=True)
class _Times:
    total: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS) + 1))


class Metrics(Collector):
    """One registry for each server, so that two in one process (tests) do not share figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests: dict[tuple[str, int], int] = {}
        self._times: dict[str, _Times] = {}
        self.registry.register(self)
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

    def count(self, operation: Operation | None, status: int, seconds: float) -> None:
        """Count one answered request. Without the library's own counters, whose locks cost more than a small answer."""
        name = operation.name if operation else "unknown"
        key = (name, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        times = self._times.get(name)
        if times is None:
            times = self._times[name] = _Times()
        times.total += seconds
        times.counts[bisect_left(_BUCKETS, seconds)] += 1

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client asks a collector for."""
        requests = CounterMetricFamily("sync_requests", "Requests answered.", labels=["operation", "status"])
        for (name, status), number in sorted(self._requests.items()):
            requests.add_metric([name, str(status)], number)
        yield requests
        seconds = HistogramMetricFamily(
            "sync_request_seconds",
            "Time to the beginning of the answer; waiting for changes and reading bodies included.",
            labels=["operation"],
        )
        for name, times in sorted(self._times.items()):
            sums = list(accumulate(times.counts))
            buckets = [*((str(float(bound)), float(sums[index])) for index, bound in enumerate(_BUCKETS))]
            seconds.add_metric([name], [*buckets, ("+Inf", float(sums[-1]))], sum_value=times.total)
        yield seconds

    def text(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self.registry)
