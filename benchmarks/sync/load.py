"""Load of the memory gate, over raw sockets so that the generator itself stays small."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping

PIECE = os.urandom(1 << 16)


async def request(
    port: int,
    method: str,
    path: str,
    headers: Mapping[str, str],
    *,
    body: int | bytes = 0,
    bytes_per_second: int = 0,
    give_up_after: float = 0.0,
) -> tuple[int, bytes]:
    """Send one request and read the answer, slowly when told so; returns the status and at most 1 MB of the body.

    A number as body means so many bytes of noise. Status 0: given up while the server was still quiet, as meant.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
    try:
        length = body if isinstance(body, int) else len(body)
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {length}"]
        lines += [f"{name}: {text}" for name, text in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        if isinstance(body, bytes):
            writer.write(body)
        else:
            while length > 0:
                # A prefix that differs keeps content-addressed storage from having the piece already.
                piece = (os.urandom(16) + PIECE)[: min(length, len(PIECE))]
                writer.write(piece)
                length -= len(piece)
                await writer.drain()
        await writer.drain()
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), give_up_after or 120)
        except TimeoutError:
            if give_up_after:
                return 0, b""
            raise
        kept, total = b"", 0
        loop = asyncio.get_running_loop()
        began = loop.time()
        while piece := await reader.read(1 << 14):
            total += len(piece)
            if len(kept) < 1 << 20:
                kept += piece
            if bytes_per_second:
                if give_up_after and loop.time() - began > give_up_after:
                    break
                await asyncio.sleep(max(0.0, total / bytes_per_second - (loop.time() - began)))
        return int(head.split(b" ", 2)[1]), kept
    finally:
        writer.close()


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()
