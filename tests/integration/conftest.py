"""What all integration tests are held to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import FAILED, ServersInUse
from tests.key_guard import keys_left
from tests.times import hurry


@pytest.fixture(autouse=True)
def key_guard(request: pytest.FixtureRequest, servers_in_use: ServersInUse) -> Iterator[None]:
    """After each test no key is left in its servers but the permanent ones; see ``tests/key_guard.py``."""
    yield
    if request.node.stash.get(FAILED, False):  # then one failure is enough
        return
    leaves = [part for marker in request.node.iter_markers("leaves") for part in marker.args]
    for server in servers_in_use.all:
        if server.running:
            server.resume()
            left = keys_left(server, leaves)
            assert not left, "keys left in " + "\n  ".join([f"{server!r}:", *left])


@pytest.fixture
def hasty_reconciler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedulers of this process: a test can't wait for as long as a job may be on its way to a worker."""
    hurry(monkeypatch, look_again_ms=500, on_the_way_ms=500)
