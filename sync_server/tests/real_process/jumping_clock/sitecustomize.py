"""Put before everything else on the path of a server under test: its wall clock is wrong by CLOCK_OFFSET seconds."""

from __future__ import annotations

import datetime
import os
import time

OFFSET = float(os.environ.get("CLOCK_OFFSET", "0"))
true_time, true_time_ns, true_now = time.time, time.time_ns, datetime.datetime.now


class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
        return true_now(tz) + datetime.timedelta(seconds=OFFSET)


if OFFSET:
    time.time = lambda: true_time() + OFFSET
    time.time_ns = lambda: true_time_ns() + int(OFFSET * 1e9)
    datetime.datetime = Shifted  # type: ignore[misc]
