"""Bounds that keep every script short: no script may hold the server for more than 50 ms."""

from __future__ import annotations

MAX_SIZE = 25_000
"""The most events that a batch may ever have."""
MAX_BYTES = 8_000_000
"""The most bytes of events that one script moves, and that a batch may have. A single event may be larger."""
MOST_RESULT_BYTES = 500_000_000
"""What fits into one value. A server accepts 512 MiB (``proto-max-bulk-len``), and disconnects on more."""
