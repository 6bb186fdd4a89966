# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sync server and its clients agree on."""

from __future__ import annotations

__version__ = "0.1.0"
API = "/api/v1"
