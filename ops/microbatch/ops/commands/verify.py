"""``microbatch verify``: compares the ledger with the data on the server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import click

from microbatch.broker.broker import Broker
from microbatch.broker.inspect.audit import Audit, Finding
from microbatch.broker.wire.identity import is_batch_id
from microbatch.broker.wire.text import printable
from microbatch.ops import options, rq_facts
from microbatch.ops.target import check_used, load_target
from microbatch.ops.views.bar import progress_bar
from microbatch.ops.views.terminal import say

_DISAGREED = 1


@click.command(context_settings=options.CONTEXT_SETTINGS, short_help="Compare the ledger with the server.")
@options.target
@click.option("--repair", is_flag=True, help="Repair what can be repaired, and say how.")
@options.log_level
@click.pass_context
def command(context: click.Context, target: str, *, repair: bool) -> None:
    """Check that all events are accounted for, and that the ledger knows all batches.

    Every event that was cut is in flight, done or dead. Every batch can be read, and those that are due are
    looked at. Every batch's key is in a ledger, and every job in the queue is a batch's job. Results are not
    neglected. Safe while the system runs. Exit code 1: something disagreed, repaired or not; 2: the server
    could not be asked, or the name was never used.

    \b
    Examples:
      microbatch verify letters
      microbatch verify letters --repair
    """
    broker = Broker(load_target(target))
    broker.server.check_version()
    found = 0
    with progress_bar("verify", Audit(broker).looks()) as advance:
        for finding in chain(_foreign_jobs(broker), Audit(broker, on_progress=advance).findings()):
            found += 1
            done = f" ({finding.repair()})" if repair and finding.repair is not None else ""
            say(f"{finding.key}: {finding.what}{done}")
    if found:
        context.exit(_DISAGREED)
    check_used(target, broker)  # last, because a name that was never used may still have strange keys
    say(f"{broker.config.name}: all is accounted for")


def _foreign_jobs(broker: Broker) -> Iterator[Finding]:
    """Jobs whose id is not a batch's. Workers refuse them.

    A job of a batch that is done is not reported: a batch that another worker took over may have two jobs.
    """
    for job_id in rq_facts.queued_jobs(broker):
        if not is_batch_id(job_id.decode("latin-1")):
            yield Finding(f"rq:job:{printable(job_id)}", "it is queued, and is not a batch's job")
