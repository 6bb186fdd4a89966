"""A TCP proxy that loses requests and answers on purpose, and whose target may move."""

from __future__ import annotations

import contextlib
import random
import socket
import threading


class FaultProxy:
    """`loss` is the share of connections that are cut: before the request, or after it and before the answer."""

    def __init__(self, target: int, choose: random.Random) -> None:
        self.target, self.choose, self.loss = target, choose, 0.0
        self.lock = threading.Lock()
        self.cut_before = self.cut_after = 0
        self.upstream = self.downstream = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            with self.lock:
                fate = self.choose.random()
            if fate < self.loss / 2:
                self.cut_before += 1
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=10)
            except OSError:
                return
            with server:
                cut = fate < self.loss
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                try:
                    while piece := server.recv(1 << 16):
                        if cut:
                            # The server has done it, or it would not answer; the device never hears.
                            self.cut_after += 1
                            return
                        self.downstream += len(piece)
                        client.sendall(piece)
                except OSError:
                    return
                finally:
                    # Closing alone does not end what another thread waits for.
                    for one in (client, server):
                        with contextlib.suppress(OSError):
                            one.shutdown(socket.SHUT_RDWR)

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while piece := client.recv(1 << 16):
                self.upstream += len(piece)
                server.sendall(piece)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            return
