"""Keys and counters that have the wrong type, as somebody else wrote them."""

from __future__ import annotations

from microbatch.broker.lua import scripts
from microbatch.broker.state.keys import Keys
from microbatch.broker.transport.server import Server
from microbatch.broker.wire.identity import new_id
from microbatch.broker.wire.text import printable


def set_aside(server: Server, keys: Keys) -> list[str]:
    """Move keys of the wrong type, used-up streams, and counters that are no numbers, out of the way.

    They are kept under ``aside:*`` for a person to look at, and nothing that is kept there is overwritten.
    What is as it should be is not touched, so anybody may do this at any time. Returns one line for each.
    Raises ServerError.
    """
    types = keys.types()
    names = [name for key in types for name in (key, keys.aside_of(key))]
    wrong = []
    for what, aside, used_up in server.run(scripts.SET_ASIDE, names, (new_id(), *types.values())):
        if isinstance(what, int):
            key = list(types)[what - 1]
            why = "had used its last id" if used_up else f"was no {types[key]}"
            wrong.append(f"{key} {why}, and is put aside as {aside.decode()}")
        else:
            wrong.append(
                f"{keys.stats}: {printable(what)} was no number, and is put aside as {aside.decode()}"
            )
    return wrong
