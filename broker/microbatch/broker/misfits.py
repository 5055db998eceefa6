"""Misfits: what stands under one of a batcher's keys and can't have been put there by us."""

from __future__ import annotations

from microbatch.broker import scripts
from microbatch.broker.keys import Keys
from microbatch.broker.server import Server
from microbatch.broker.wire import new_id, printable


def set_aside(server: Server, keys: Keys) -> list[str]:
    """Move every key of the wrong type, and every counter that is no number, out of the way.

    They are kept under ``aside:*`` for a person to look at, and nothing that is kept there is overwritten.
    What is as it should be is not touched, so anybody may do this at any time. Returns one line for each.
    Raises ServerError.
    """
    types = keys.types()
    names = [name for key in types for name in (key, keys.aside_of(key))]
    wrong = []
    for what, aside in server.run(scripts.SET_ASIDE, names, (new_id(), *types.values())):
        if isinstance(what, int):
            key = list(types)[what - 1]
            wrong.append(f"{key} was no {types[key]}, and is put aside as {aside.decode()}")
        else:
            wrong.append(
                f"{keys.stats}: {printable(what)} was no number, and is put aside as {aside.decode()}"
            )
    return wrong
