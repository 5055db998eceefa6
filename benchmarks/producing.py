"""The producer program's side of a benchmark; see ``processes.Producer``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable


def produce(record: Callable[[], object]) -> None:
    """Wait for the order to record, record, and write when this began and ended."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    begun = time.monotonic()
    record()
    sys.stdout.write(json.dumps([begun, time.monotonic()]) + "\n")
    sys.stdout.flush()
