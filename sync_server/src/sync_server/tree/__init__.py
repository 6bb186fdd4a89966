# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the tree. Knows the store, not HTTP."""

from __future__ import annotations

from sync_server.tree.files import Content, Expect, FileResult, FileUpload
from sync_server.tree.service import Tree, TreeSettings
from sync_server.tree.uploads import ResumedUpload

__all__ = ["Content", "Expect", "FileResult", "FileUpload", "ResumedUpload", "Tree", "TreeSettings"]
