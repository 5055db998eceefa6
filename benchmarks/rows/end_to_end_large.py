"""End to end, large batches: how far we are above the least that can be done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.bare import Bare
from benchmarks.measure import Claim, Scale, System
from benchmarks.ours import Ours

NAME = "end-to-end-1000"
TITLE = "the same in batches of 1,000, against bare redis-py (push, pop, decode, `XADD`, read)"
CLAIMS = (Claim("processed/s", "Microbatch", 0.3, "bare redis-py"),)
_SIZE = 1_000


def systems(_scale: Scale, stack: ExitStack) -> Iterator[System]:
    ours = Ours(stack, max_size=_SIZE)
    stack.enter_context(ours.everything())
    bare = Bare(stack, _SIZE)
    yield System("Microbatch", ours.end_to_end, first=50_000, step=_SIZE, share=0.5, rate="processed/s")
    yield System("bare redis-py", bare.end_to_end, first=50_000, step=_SIZE, share=0.5, rate="processed/s")
