"""An API before a real nginx and a real certbot that answers like Nginx Proxy Manager 2.15.1: a stand-in for tests."""

from __future__ import annotations

VERSION = (2, 15, 1)
