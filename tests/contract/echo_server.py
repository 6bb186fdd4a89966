"""Answers every request on ports 80 and 8080 with what it was asked, as JSON. Runs inside a container."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        heard = {"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()}}
        body = json.dumps(heard).encode()
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "private")
        self.end_headers()
        self.wfile.write(body)


for port in (80, 8080):
    server = ThreadingHTTPServer(("", port), Echo)
    threading.Thread(target=server.serve_forever).start()
