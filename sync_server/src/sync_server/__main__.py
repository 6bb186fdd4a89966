"""`python -m sync_server`."""

from sync_server.cli import run

run()
