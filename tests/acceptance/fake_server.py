"""A server that is too old. It speaks the protocol only well enough to say so."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers import LOCALHOST

_INFO = b"# Server\r\nredis_version:6.0.16\r\nredis_mode:standalone\r\n"


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while words := self._command():
            if words[0].upper() == b"INFO":
                self.wfile.write(b"$%d\r\n%s\r\n" % (len(_INFO), _INFO))
            else:
                self.wfile.write(b"+OK\r\n")

    def _command(self) -> list[bytes]:
        words = []
        for _ in range(int(self.rfile.readline()[1:] or 0)):
            length = int(self.rfile.readline()[1:])
            words.append(self.rfile.read(length + 2)[:-2])
        return words


@contextmanager
def old_server() -> Iterator[str]:
    """The URL of a server that claims to be Redis 6.0.16."""
    with socketserver.ThreadingTCPServer((LOCALHOST, 0), _Answer) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"redis://{LOCALHOST}:{server.server_address[1]}/0"
        server.shutdown()
        thread.join()
