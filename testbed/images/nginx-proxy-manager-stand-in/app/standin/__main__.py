"""Starts the API: keys, database, first user, renewal timer, server."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from . import log
from .database import Database
from .http_server import serve
from .routes import Api
from .tokens import Keys

_PORT = 3000
_SCHEMA = Path(__file__).parent.parent / "openapi.json"


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for name in os.environ:
        if name.startswith(("DB_MYSQL_", "DB_POSTGRES_")):
            sys.exit(f"{name} is set, but the stand-in keeps its data in SQLite only.")
    path = os.environ.get("DB_SQLITE_FILE", "/data/database.sqlite")
    log.write("Global", f"Using Sqlite: {path}")
    api = Api(Database(path), Keys(Path("/data/keys.json")), _SCHEMA)
    _add_first_user(api)
    if os.environ.get("IP_RANGES_FETCH_ENABLED") == "false":
        log.write("Global", "IP Ranges fetch is disabled by environment variable")
    else:
        log.write("Global", "IP Ranges fetch is not part of the stand-in, continuing without")
    api.certificates.keep_renewing(api.internal_access())
    log.write("Global", f"Backend PID {os.getpid()} listening on port {_PORT} ...")
    serve(api, _PORT)


def _add_first_user(api: Api) -> None:
    address, password = os.environ.get("INITIAL_ADMIN_EMAIL"), os.environ.get("INITIAL_ADMIN_PASSWORD")
    if not address or not password or api.users.exist:
        return
    # Upstream writes the password in clear, and a role that passes it this way must be seen to leak it.
    log.write("Setup", f"Creating a new user: {address} with password: {password}")
    user = {"email": address, "name": "Administrator", "nickname": "Admin", "roles": ["admin"]}
    api.users.add(api.internal_access(), user, {"type": "password", "secret": password})
    log.write("Setup", "Initial admin setup completed")


if __name__ == "__main__":
    main()
