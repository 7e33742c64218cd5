#!/usr/bin/env python3
"""An application with a web page, for jobs of tests: it answers with what it was asked.

It knows only what is below UCLOUD_BASE_PATH. A path that ends in ``status/<number>`` is answered with that status;
one that ends in ``accel`` tries to make nginx go to another location.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    """What was asked, as JSON."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answers."""
        size = len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        head, _, last = self.path.rpartition("/")
        said = {"rank": os.environ.get("SLURM_PROCID"), "path": self.path, "size": size, "headers": dict(self.headers)}
        body = json.dumps(said).encode()
        status = int(last) if head.endswith("status") else 200
        self.send_response(status if self.path.startswith(os.environ["UCLOUD_BASE_PATH"]) else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Own", "yes")
        if last == "accel":
            self.send_header("X-Accel-Redirect", "/_ucloud/closed")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
