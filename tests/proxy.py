"""A proxy before a server, which can eat a reply: the command is done, and its sender never hears of it."""

from __future__ import annotations

import re
import socket
import threading
from types import TracebackType

from tests.servers import LOCALHOST, RealServer

_BUFFER = 1 << 20


class Proxy:
    """Passes everything on between its clients and ``server``. For a ``with`` block."""

    def __init__(self, server: RealServer) -> None:
        self._server = server
        self._listener = socket.create_server((LOCALHOST, 0))
        self._wanted: re.Pattern[bytes] | None = None
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.eaten = threading.Event()

    @property
    def url(self) -> str:
        return f"redis://{LOCALHOST}:{self._listener.getsockname()[1]}/0"

    def eat_reply_to(self, *words: str) -> None:
        """Eat the reply to what next says these words, in this order, and cut its connection."""
        with self._lock:
            self.eaten.clear()
            self._wanted = re.compile(b".*".join(re.escape(word.encode()) for word in words), re.DOTALL)

    def __enter__(self) -> Proxy:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._sockets:
            _hang_up(end)
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server.socket_path))
            self._sockets += [client, server]
            hungry = threading.Event()
            self._start(self._pass_commands, client, server, hungry)
            self._start(self._pass_replies, client, server, hungry)

    def _pass_commands(self, client: socket.socket, server: socket.socket, hungry: threading.Event) -> None:
        said = b""  # since something is wanted; a transaction may come in several pieces
        while data := _receive(client):
            with self._lock:
                said = said + data if self._wanted else b""
                if self._wanted and self._wanted.search(said):
                    self._wanted = None
                    hungry.set()
            if not _send(server, data):
                break
        _hang_up(server)

    def _pass_replies(self, client: socket.socket, server: socket.socket, hungry: threading.Event) -> None:
        while data := _receive(server):
            if hungry.is_set():
                self.eaten.set()
                break
            if not _send(client, data):
                break
        _hang_up(client)


def _receive(end: socket.socket) -> bytes:
    try:
        return end.recv(_BUFFER)
    except OSError:
        return b""


def _send(end: socket.socket, data: bytes) -> bool:
    try:
        end.sendall(data)
    except OSError:
        return False
    return True


def _hang_up(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was first
