# SPDX-License-Identifier: GPL-3.0-or-later
"""How content is named."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY = sha256(b"").hexdigest()


def blob_id(data: bytes | bytearray | memoryview) -> str:
    """The name of a blob."""
    return sha256(data).hexdigest()


def content_id(blobs: Sequence[str]) -> str:
    """The name of a file's content: of no blob and of one, the SHA-256 of the bytes; else that of the list.

    The same bytes cut differently have different names: it tells equality of two lists, not of two files.
    """
    if not blobs:
        return EMPTY
    if len(blobs) == 1:
        return blobs[0]
    return sha256(b"blobs\0" + b"".join(map(bytes.fromhex, blobs))).hexdigest()


def normal_blobs(blobs: Sequence[str]) -> tuple[str, ...]:
    """The list without the blob of no bytes: an empty file has no blobs."""
    return tuple(blob for blob in blobs if blob != EMPTY)
