# SPDX-License-Identifier: GPL-3.0-or-later
"""The Linux client of the sync server."""

from __future__ import annotations

__version__ = "0.1.0"
