"""Running the server: parts are opened, requests served, and on SIGTERM finished before everything is closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sqlite3
import time
from typing import TYPE_CHECKING, Protocol

from sync_server import __version__
from sync_server.app import MAX_HEADER_BYTES, App
from sync_server.auth import keys
from sync_server.auth.accounts import NOTICED_SECONDS
from sync_server.auth.service import Auth
from sync_server.health import Prober
from sync_server.metrics import Metrics
from sync_server.services import Services
from sync_server.store import maintenance
from sync_server.store.interface import SyncError
from sync_server.store.sqlite import SqliteStore, StoreSettings
from sync_server.tree import Tree, TreeSettings
from sync_server.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sync_server.config import Config

log = logging.getLogger("sync_server")

_SEEN_SECONDS = 60
_HOUSEKEEPING_SECONDS = 3600
_SETTLED_SECONDS = 600


def store_settings(config: Config) -> StoreSettings:
    return StoreSettings(free_floor=config.free_space_floor, quota=config.default_quota or None)


def tree_settings(config: Config) -> TreeSettings:
    return TreeSettings(
        keep_versions=config.keep_versions,
        trash_days=config.trash_days,
        journal_days=config.journal_days,
        op_days=config.operation_days,
        quota=config.default_quota or None,
    )


@contextlib.asynccontextmanager
async def open_services(config: Config) -> AsyncIterator[Services]:
    """The parts of a server, opened and closed in the right order."""
    store = await SqliteStore.open(config.data_dir, store_settings(config), role="server")
    try:
        metrics = Metrics()
        auth = Auth(store, keys.load_or_make(config.data_dir / keys.KEY_FILE), config)
        services = Services(
            config=config,
            store=store,
            tree=Tree(store, tree_settings(config)),
            auth=auth,
            metrics=metrics,
            waiting=Waiting(config.max_waiting, metrics),
            prober=Prober(store),
        )
        jobs = [asyncio.create_task(job(services)) for job in (_watch_revocations, _keep_seen, _keep_house)]
        try:
            yield services
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            with contextlib.suppress(SyncError):
                await auth.store_last_seen()
            auth.close()
    finally:
        await store.close()


async def _watch_revocations(services: Services) -> None:
    """Requests look for themselves; who waits for changes must not wait for the next request too."""
    while True:
        await asyncio.sleep(NOTICED_SECONDS)
        try:
            services.auth.look_for_other_processes()
        except sqlite3.Error as error:
            log.warning("the devices cannot be read", extra={"reason": str(error)})


async def _keep_seen(services: Services) -> None:
    while True:
        await asyncio.sleep(_SEEN_SECONDS)
        with contextlib.suppress(SyncError):
            await services.auth.store_last_seen()


async def _keep_house(services: Services) -> None:
    """What grows old goes: now and then, and not before a machine that starts with a wrong clock has asked for the
    time."""
    await asyncio.sleep(_SETTLED_SECONDS)
    while True:
        try:
            await services.tree.housekeeping()
            report = await maintenance.collect(services.store)
            if report.removed:
                log.info("removed contents nothing refers to", extra={"blobs": report.removed, "bytes": report.bytes})
        except SyncError as error:
            log.warning("housekeeping was put off", extra={"reason": error.detail})
        except Exception:
            log.exception("housekeeping failed")
        await asyncio.sleep(_HOUSEKEEPING_SECONDS)


class HttpServer(Protocol):
    """What speaks HTTP."""

    async def serve(self) -> None:
        """Serve until stop; raises OSError when the address cannot be had."""

    def stop(self) -> None:
        """Accept nothing more and end the running requests."""


class _Granian:
    def __init__(self, app: App, config: Config, port: int) -> None:
        from granian.constants import HTTPModes, Interfaces
        from granian.http import HTTP1Settings
        from granian.server.embed import Server

        # In this process: a worker of its own would cost another 27 MB.
        self._server = Server(
            app,
            address=config.host,
            port=port,
            interface=Interfaces.ASGINL,
            # A connection of HTTP/2 may ask for 200 things at once, and each takes memory; no proxy needs it.
            http=HTTPModes.http1,
            websockets=False,
            log_enabled=False,
            backlog=512,
            # More connections than this wait in the kernel, where they cost nothing. Waiting devices count too. With
            # all of them sending headers that never end, 150 MB are still enough.
            backpressure=config.max_waiting + 64,
            http1_settings=HTTP1Settings(header_read_timeout=15_000, max_buffer_size=MAX_HEADER_BYTES),
        )

    async def serve(self) -> None:
        try:
            await self._server.serve()
        except RuntimeError as error:
            raise OSError(str(error)) from None

    def stop(self) -> None:
        self._server.stop()  # type: ignore[no-untyped-call]


class _Uvicorn:
    def __init__(self, app: App, config: Config, port: int) -> None:
        import uvicorn

        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=config.host,
                port=port,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=512,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                timeout_graceful_shutdown=config.drain_seconds,
            )
        )
        # Signals are this module's business.
        self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]

    async def serve(self) -> None:
        try:
            await self._server.serve()
        except SystemExit:
            raise OSError("the address cannot be had") from None

    def stop(self) -> None:
        self._server.should_exit = True


def free_port(host: str) -> int:
    """A port nobody listens on now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
        return port


def _check_free(host: str, port: int) -> None:
    """Raise OSError when somebody listens there. Granian shares its port with others that do, which only confuses."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, finish what is running, and close."""
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    port = config.port or free_port(config.host)
    _check_free(config.host, port)
    async with open_services(config) as services:
        app = App(services)
        http: HttpServer = (_Granian if config.server == "granian" else _Uvicorn)(app, config, port)
        serving = asyncio.create_task(http.serve())
        try:
            await _until_listening(config.host, port, serving)
            log.info(
                "listening",
                extra={"host": config.host, "port": port, "server": config.server, "version": __version__},
            )
            _tell_systemd("READY=1")
            stop = asyncio.create_task(asked_to_stop.wait())
            await asyncio.wait([stop, serving], return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if serving.done():
                await serving
                raise OSError("the HTTP server ended by itself")
            log.info("stopping", extra={"requests": app.running})
            _tell_systemd("STOPPING=1")
            await _drain(services, app, http, serving, config.drain_seconds)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
    log.info("stopped")


def _tell_systemd(state: str) -> None:
    """What sd_notify(3) does, for units of Type=notify; nothing where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.connect("\0" + address[1:] if address.startswith("@") else address)
        systemd.sendall(state.encode())


async def _drain(services: Services, app: App, http: HttpServer, serving: asyncio.Task[None], seconds: float) -> None:
    services.stopping.set()
    services.store.release_waiting()
    until = time.monotonic() + seconds
    http.stop()
    while app.running and time.monotonic() < until:
        await asyncio.sleep(0.02)
    if app.running:
        log.warning("requests were broken off", extra={"requests": app.running})
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(serving), 2)


async def _until_listening(host: str, port: int, serving: asyncio.Task[None]) -> None:
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    for _ in range(500):
        if serving.done():
            await serving
            raise OSError("the HTTP server ended by itself")
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        return
    raise OSError(f"nothing listens on {host}:{port}")
