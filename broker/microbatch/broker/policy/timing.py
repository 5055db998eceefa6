"""The times that several parts of the system have to agree on."""

RUN_TTL_MS = 8_000
"""How long a worker may be silent before its batch is run elsewhere."""
