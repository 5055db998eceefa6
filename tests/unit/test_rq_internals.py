"""RQ's internals: each that our workers rely on still exists, and RQ still uses it as they expect.

A failure here names what a release of RQ has changed, and the module whose docstring says what it is for.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import pytest
from rq import SimpleWorker, command, executions, suspension
from rq.job import Job
from rq.timeouts import BaseDeathPenalty, UnixSignalDeathPenalty
from rq.version import VERSION
from rq.worker import BaseWorker

from microbatch.worker.rq import counters as rq_counters
from microbatch.worker.rq import job as rq_job
from microbatch.worker.rq import limit as rq_limit
from microbatch.worker.rq import report as rq_report
from microbatch.worker.rq import resilient as rq_resilient
from microbatch.worker.rq import worker as rq_worker
from microbatch.worker.rq.job import BatchJob
from microbatch.worker.rq.limit import RunLimit
from microbatch.worker.rq.report import ReportingWorker
from microbatch.worker.rq.resilient import ResilientWorker
from microbatch.worker.rq.worker import BatchWorker

# Our class, its base class, and the methods that it overrides.
CLASSES: list[tuple[type, type, str]] = [
    (
        BatchWorker,
        BaseWorker,
        """
        death_penalty_class dequeue_job_and_maintain_ttl kill_horse _install_signal_handlers
        """,
    ),
    (
        ReportingWorker,
        BaseWorker,
        """
        job_class execute_job prepare_execution prepare_job_execution handle_exception handle_job_failure
        """,
    ),
    (
        ResilientWorker,
        BaseWorker,
        """
        register_birth register_death set_state heartbeat check_for_suspension run_maintenance_tasks
        handle_payload _pubsub_exception_handler unsubscribe _set_connection
        """,
    ),
    (BatchJob, Job, "restore perform"),
    (
        RunLimit,
        UnixSignalDeathPenalty,
        "setup_death_penalty cancel_death_penalty handle_death_penalty",
    ),
]
# Our module, a function of RQ's, and the names and fields in the function that the module relies on.
USES: list[tuple[Any, Any, str]] = [
    (
        rq_worker,
        BaseWorker.work,
        """
        check_for_suspension should_run_maintenance_tasks run_maintenance_tasks _stop_requested
        dequeue_job_and_maintain_ttl execute_job _install_signal_handlers
        """,
    ),
    (rq_worker, BaseWorker.check_for_suspension, "_stop_requested"),
    (rq_worker, BaseWorker.perform_job, "prepare_job_execution death_penalty_class"),
    (rq_worker, BaseWorker.handle_job_failure, "_stopped_job_id"),
    (rq_report, BaseWorker.work, "execute_job"),
    (rq_report, SimpleWorker.execute_job, "prepare_execution"),
    (rq_report, BaseWorker._finalize_failure, "handle_exception handle_job_failure"),
    (rq_report, BaseWorker.handle_job_failure, "job_class"),
    (rq_worker, command.handle_stop_job_command, "get_current_job_id _stopped_job_id kill_horse"),
    (rq_worker, BaseWorker.request_stop_execution, "_stopped_job_id kill_horse"),
    (rq_report, executions.prepare_execution, "executions"),
    (rq_report, executions.cleanup_execution, "executions"),
    (rq_resilient, BaseWorker.work, "check_for_suspension run_maintenance_tasks heartbeat"),
    (rq_resilient, BaseWorker.__init__, "_set_connection"),
    (rq_resilient, BaseWorker.bootstrap, "register_birth set_state"),
    (rq_resilient, BaseWorker.teardown, "register_death unsubscribe"),
    (rq_resilient, BaseWorker.subscribe, "handle_payload _pubsub_exception_handler"),
    (rq_resilient, BaseWorker.should_run_maintenance_tasks.fget, "last_cleaned_at"),  # type: ignore[attr-defined]
    (rq_resilient, suspension.is_suspended, "heartbeat"),
    (rq_counters, BaseWorker.increment_successful_job_count, "successful_job_count"),
    (rq_counters, BaseWorker.increment_total_working_time, "total_working_time"),
    (rq_job, BaseWorker.perform_job, "perform started_at"),
    (rq_job, Job.refresh, "restore"),
    (rq_limit, BaseDeathPenalty.__enter__, "setup_death_penalty"),
    (rq_limit, BaseDeathPenalty.__exit__, "cancel_death_penalty BaseTimeoutException"),
    (rq_limit, UnixSignalDeathPenalty.setup_death_penalty, "handle_death_penalty SIGALRM"),
]


def words(code: CodeType) -> Iterator[str]:
    """The names and texts in a function, and in the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from words(constant)
        elif isinstance(constant, str):
            yield constant


def parameters(function: Callable[..., Any]) -> list[str]:
    """The names of a function's parameters. Ours begin with "_" if they are unused."""
    return [f"{p.kind.name} {p.name.lstrip('_')}" for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize(("module", "function", "names"), USES)
def test_rq_uses_what_is_relied_on(module: Any, function: Any, names: str) -> None:
    gone = set(names.split()) - set(words(function.__code__))
    where = f"{function.__module__}.{function.__qualname__}"
    assert not gone, f"{where} of RQ {VERSION} has no {sorted(gone)}, which {module.__name__} relies on"


@pytest.mark.parametrize(("ours", "rqs", "names"), CLASSES)
def test_what_is_overridden_is_what_rq_calls(ours: type, rqs: type, names: str) -> None:
    what = f"{rqs.__module__}.{rqs.__qualname__} of RQ {VERSION}"
    both = {name for name in vars(ours) if hasattr(rqs, name) and not name.startswith("__")}
    wanted = set(names.split())
    assert wanted <= both, f"{what} has no {sorted(wanted - both)}, which {ours.__name__} overrides"
    assert both <= wanted, f"{what} has {sorted(both - wanted)} too, as {ours.__name__} has for its own"
    for name in wanted:
        theirs, own = inspect.getattr_static(rqs, name), inspect.getattr_static(ours, name)
        if inspect.isfunction(own):
            assert parameters(own) == parameters(theirs), f"{what} has other parameters for {name}"


def test_every_name_that_is_relied_on_is_in_the_docstring_of_its_module() -> None:
    names = [(module, name) for module, _, names in USES for name in names.split()]
    names += [(sys.modules[ours.__module__], name) for ours, _, names in CLASSES for name in names.split()]
    unnamed = {f"{module.__name__}: {name}" for module, name in names if name not in module.__doc__}
    assert not unnamed, f"these docstrings don't name what is relied on: {sorted(unnamed)}"


def test_who_in_rq_calls_what_is_overridden_is_in_the_table() -> None:
    """If RQ renamed what is overridden, our method would never be called, and nobody would notice."""
    called = {name for _, _, names in USES for name in names.split()}
    assert {name for _, _, names in CLASSES for name in names.split()} <= called
