"""``microbatch verify``: the ledger held against the server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import click

from microbatch.broker.audit import Audit, Finding
from microbatch.broker.broker import Broker
from microbatch.broker.wire import printable
from microbatch.ops import options, rq_facts
from microbatch.ops.target import load_target

_DISAGREED = 1


@click.command(context_settings=options.CONTEXT_SETTINGS, short_help="Hold the ledger against the server.")
@options.target
@click.option("--repair", is_flag=True, help="Mend what can be mended, and say how.")
@options.log_level
@click.pass_context
def command(context: click.Context, target: str, *, repair: bool) -> None:
    """Check that all events are accounted for, and that nothing lies about that nobody knows.

    Every event that was cut is in flight, done or dead; every batch in flight can be read and is looked
    after; every batch's key is in a ledger; every job has its batch. Safe while the system runs. Exit code
    1 if anything disagreed, mended or not.

    \b
    Examples:
      microbatch verify letters
      microbatch verify letters --repair
    """
    broker = Broker(load_target(target))
    broker.server.check_version()
    audit = Audit(broker)
    found = 0
    for finding in chain(_jobs_without_batches(broker, audit), audit.findings()):
        found += 1
        done = f" ({finding.repair()})" if repair and finding.repair is not None else ""
        click.echo(f"{finding.key}: {finding.what}{done}")
    if found:
        context.exit(_DISAGREED)
    click.echo(f"{broker.config.name}: all is accounted for")


def _jobs_without_batches(broker: Broker, audit: Audit) -> Iterator[Finding]:
    for job_id in rq_facts.queued_jobs(broker):
        # Looked at twice: the batch may have been committed by another job since the queue was read.
        if not audit.holds(job_id) and job_id in rq_facts.queued_jobs(broker):

            def repair(job_id: bytes = job_id) -> str:
                rq_facts.forget_job(broker, job_id)
                return "the job was deleted"

            yield Finding(f"rq:job:{printable(job_id)}", "it is queued for a batch that is not there", repair)
