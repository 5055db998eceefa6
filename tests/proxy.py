"""A proxy in front of a server. It can eat a reply, go silent, or be slow.

When a reply is eaten, the server has executed the command, but its sender never gets the reply. During a
silence, the proxy holds back all data in both directions, and connections stay open.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from types import TracebackType

from tests.servers import LOCALHOST, RealServer

_BUFFER = 1 << 20


class Proxy:
    """Passes all data on between its clients and ``server``. For a ``with`` block.

    While the server is away, the proxy closes every new connection.
    """

    def __init__(self, server: RealServer) -> None:
        self._server = server
        self._listener = socket.create_server((LOCALHOST, 0))
        self._wanted: re.Pattern[bytes] | None = None
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._passing = threading.Event()
        self._passing.set()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self.eaten = threading.Event()
        self.bytes_per_second = 0
        """How fast replies are passed on over each connection; 0 means no limit."""

    @property
    def url(self) -> str:
        return f"redis://{LOCALHOST}:{self._listener.getsockname()[1]}/0"

    def eat_reply_to(self, *words: str) -> None:
        """Eat the reply to the next commands with these words in this order, and close that connection."""
        with self._lock:
            self.eaten.clear()
            self._wanted = re.compile(b".*".join(re.escape(word.encode()) for word in words), re.DOTALL)

    def eat_nothing(self) -> None:
        """Do not eat a reply that has not arrived yet."""
        with self._lock:
            self._wanted = None

    def go_silent(self) -> None:
        """Pass no data on."""
        self._passing.clear()

    def drop_links(self) -> None:
        """Pass no data on over the existing connections, like a firewall that has forgotten them.

        New connections work.
        """
        for link in self._all_links():
            link.drop()

    def go_on(self, *, hang_up: bool = False) -> None:
        """Pass on what was held back and all further data. ``hang_up``: first close existing connections."""
        if hang_up:
            for link in self._all_links():
                link.hang_up()
        self._passing.set()

    def __enter__(self) -> Proxy:
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        self._passing.set()
        for link in self._all_links():
            link.hang_up()
            link.join()

    def _all_links(self) -> list[_Link]:
        with self._lock:
            return list(self._links)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._server.socket_path))
            except OSError:
                server.close()
                client.close()
                continue
            link = _Link(self, client, server)
            with self._lock:
                self._links.add(link)
            link.start()

    def is_wanted(self, said: bytes) -> bool:
        """Whether to eat the reply to ``said``. Only the first caller that matches gets True."""
        with self._lock:
            found = self._wanted is not None and self._wanted.search(said) is not None
            if found:
                self._wanted = None
        return found

    @property
    def wants(self) -> bool:
        """Whether a reply that has not arrived yet must be eaten."""
        return self._wanted is not None

    def wait_to_pass(self) -> None:
        """Wait until data may be passed on."""
        self._passing.wait()

    def forget(self, link: _Link) -> None:
        """Forget a closed connection."""
        with self._lock:
            self._links.discard(link)


class _Link:
    """One client's connection, and the connection to the server over which its data is passed on."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._hungry = threading.Event()
        self._dropped = threading.Event()
        self._there = threading.Thread(target=self._pass_commands, daemon=True)
        self._back = threading.Thread(target=self._pass_replies, daemon=True)

    def start(self) -> None:
        self._back.start()
        self._there.start()

    def join(self) -> None:
        self._there.join()

    def drop(self) -> None:
        self._dropped.set()

    def hang_up(self) -> None:
        _hang_up(self._client)
        _hang_up(self._server)

    def _pass_commands(self) -> None:
        said = b""  # what was sent since a reply is wanted; a transaction may arrive in several pieces
        while data := _receive(self._client):
            self._proxy.wait_to_pass()
            if self._dropped.is_set():
                continue
            said = (said + data)[-_BUFFER:] if self._proxy.wants else b""
            if said and self._proxy.is_wanted(said):
                self._hungry.set()
            if not _send(self._server, data):
                break
        self.hang_up()
        self._back.join()
        self._client.close()
        self._server.close()
        self._proxy.forget(self)

    def _pass_replies(self) -> None:
        while data := _receive(self._server, self._proxy.bytes_per_second // 20 or _BUFFER):
            if self._hungry.is_set():
                self._proxy.eaten.set()
                break
            self._proxy.wait_to_pass()
            if self._dropped.is_set():
                continue
            if not _send(self._client, data):
                break
            if rate := self._proxy.bytes_per_second:
                time.sleep(len(data) / rate)
        self.hang_up()


def _receive(end: socket.socket, most: int = _BUFFER) -> bytes:
    try:
        return end.recv(most)
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
        return  # the other side closed it first
