# SPDX-License-Identifier: GPL-3.0-or-later
"""Which folders are in no trashed folder, remembered for as long as nothing changes in their tree: the walk up to the
root costs more than the rest of reading a node."""

from __future__ import annotations

from sync_server.store.interface import ROOT, NodeRow, Reader
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
        if node.parent in (None, ROOT):
            return True
        known = self._known.get((node.account, node.parent))
        return known[1] if known is not None and known[0] == seq else None

    def look_up(self, rows: Reader, node: NodeRow) -> bool:
        """Tell it in any case, and remember it of the folder the node is in."""
        seq = rows.tree(node.account).seq
        live = self.is_live(node, seq)
        if live is None:
            if len(self._known) >= _MOST_FOLDERS:
                self._known.clear()
            # The node itself is not in the trash, so this is about its folder.
            live = is_live(rows, node)
            self._known[node.account, node.parent] = (seq, live)
        return live
