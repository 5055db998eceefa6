"""Fixtures of all integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import FAILED, ServersInUse
from tests.key_guard import keys_left
from tests.times import hurry


@pytest.fixture(autouse=True)
def key_guard(request: pytest.FixtureRequest, servers_in_use: ServersInUse) -> Iterator[None]:
    """Fail a test that leaves keys other than the permanent ones in its servers.

    See ``tests/key_guard.py``.
    """
    yield
    if request.node.stash.get(FAILED, False):  # one failure is enough
        return
    leaves = [part for marker in request.node.iter_markers("leaves") for part in marker.args]
    for server in servers_in_use.all:
        if server.running:
            server.resume()
            left = keys_left(server, leaves)
            assert not left, "keys left in " + "\n  ".join([f"{server!r}:", *left])


@pytest.fixture
def hasty_reconciler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time for which a job may be on its way, for schedulers of this process."""
    hurry(monkeypatch, look_again_ms=500, on_the_way_ms=500)
