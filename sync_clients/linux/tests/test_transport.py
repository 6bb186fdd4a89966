"""What goes over the line, as a strict proxy sees it."""

from __future__ import annotations

import socket
import threading

from sync_client.transport import Transport


def test_a_request_has_one_host_header() -> None:
    seen = b""

    def answer(listener: socket.socket) -> None:
        nonlocal seen
        line, _ = listener.accept()
        with line:
            while b"\r\n\r\n" not in seen:
                seen += line.recv(4096)
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        Transport(f"http://127.0.0.1:{port}").request("GET", "/usage", auth=False)
        thread.join(10)
    names = [line.partition(b":")[0].lower() for line in seen.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
    assert names.count(b"host") == 1
    assert f"Host: 127.0.0.1:{port}".encode() in seen
