"""A private file-sync service for one person or a family."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("sync-server")
