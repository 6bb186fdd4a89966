# SPDX-License-Identifier: GPL-3.0-or-later
"""How a large file is cut, so that a change in it moves few bytes.

The server takes any list of blobs: another cutter costs only what would have been recognised as the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from sync_protocol.types import MAX_BLOB

SMALLEST = 256 * 1024
AVERAGE = 1024 * 1024
LARGEST = MAX_BLOB


class Reader(Protocol):
    """A file opened for reading bytes."""

    def read(self, size: int = -1, /) -> bytes: ...


def cut(file: Reader, size: int) -> Iterator[bytes]:
    """Yield the content in blobs: one for up to 4 MiB, else cut by content. Memory stays at a few blobs.

    `size` decides only whether it is worth cutting; a file that grew meanwhile is read to its end all the same.
    """
    if size <= LARGEST:
        first = file.read(LARGEST)
        if len(first) < LARGEST:
            if first:
                yield first
            return
        yield first
    from pyfastcdc import FastCDC  # only who cuts large files needs it

    # Its default seed and normalisation: two clients cut alike only while these stay.
    cutter = FastCDC(avg_size=AVERAGE, min_size=SMALLEST, max_size=LARGEST)
    for chunk in cutter.cut_stream(file):
        yield bytes(chunk.data)
