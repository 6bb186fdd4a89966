"""What schemathesis has to be told: that tus has a media type of its own, which is bytes."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/offset+octet-stream")
def offset_octets(_: Any, value: Any) -> bytes:
    """The bytes as they are."""
    return value if isinstance(value, bytes) else str(value).encode()
