"""What every route may use."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sync_server.http.arrivals import Arrivals
from sync_server.http.body import Gathered

if TYPE_CHECKING:
    from sync_server.auth.service import Auth
    from sync_server.config import Config
    from sync_server.health import Prober
    from sync_server.metrics import Metrics
    from sync_server.store.sqlite import SqliteStore
    from sync_server.tree import Tree
    from sync_server.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one running server."""

    config: Config
    store: SqliteStore
    tree: Tree
    auth: Auth
    metrics: Metrics
    waiting: Waiting
    prober: Prober
    gathered: Gathered = field(default_factory=Gathered)
    arrivals: Arrivals = field(default_factory=Arrivals)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
