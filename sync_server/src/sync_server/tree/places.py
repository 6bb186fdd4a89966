# SPDX-License-Identifier: GPL-3.0-or-later
"""Which folders are in no trashed folder, remembered for as long as nothing changes in their tree: the walk up to the
root costs more than the rest of reading a node."""

from __future__ import annotations

from sync_server.store.interface import NodeRow, Reader
from sync_server.tree.entries import is_live

# Of all accounts together; about 200 bytes each.
_MOST_FOLDERS = 4096


class Places:
    """Those of one server."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int | None], tuple[int, bool]] = {}

    def is_live(self, node: NodeRow, seq: int) -> bool | None:
        """Tell whether a node is live in the state after journal number `seq`; None: it has to be looked up."""
        if node.deleted:
            return False
        if node.parent is None:
            return True
        known = self._known.get((node.account, node.parent))
        return known[1] if known is not None and known[0] == seq else None

    def learn(self, rows: Reader, node: NodeRow) -> None:
        """Remember it of the folder the node is in."""
        parent = None if node.parent is None else rows.node(node.account, node.parent)
        if parent is None:
            return
        if len(self._known) >= _MOST_FOLDERS:
            self._known.clear()
        self._known[node.account, parent.id] = (rows.tree(node.account).seq, is_live(rows, parent))
