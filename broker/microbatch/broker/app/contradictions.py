"""Settings that are valid on their own and make no sense together."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterator, Mapping

from microbatch.broker.app.config import Config
from microbatch.broker.app.loading import ENVIRONMENT_VARIABLE
from microbatch.broker.process.log_format import LEVEL_VARIABLE

log = logging.getLogger(__name__)
_PREFIX = Config.model_config["env_prefix"]
_NO_SETTINGS = (ENVIRONMENT_VARIABLE, LEVEL_VARIABLE)
_CLOSE = 0.9  # of 1; a name that is less similar may belong to another program
_MANY_IN_FLIGHT = 100  # batches; far more than most batchers have workers
_told: set[str] = set()


def warn_of_contradictions(config: Config) -> None:
    """Log each contradiction of a batcher's settings, and each mistyped variable, once in this process."""
    for what in (*contradictions(config), *mistyped(os.environ)):
        line = f"{config.name}: {what}"
        if line not in _told:
            _told.add(line)
            log.warning("%s", line)


def contradictions(config: Config) -> Iterator[str]:
    """One line for each contradiction: the settings, their effect, and what to do."""
    if config.max_waiting is not None and config.max_waiting < config.max_size and not config.eager:
        yield (
            f"max_waiting ({config.max_waiting:,}) is less than max_size ({config.max_size:,}), so no batch "
            "is ever full and each waits for its tick; raise max_waiting"
        )
    if config.block_when_full and config.max_waiting is None:
        yield "block_when_full has no effect without max_waiting; set that too"
    if config.results == "discard" and config.results_max is not None:
        yield "results_max has no effect with results='discard'; leave it out"
    if config.eager and isinstance(most := config.max_in_flight, int) and most >= _MANY_IN_FLIGHT:
        yield (
            f"with eager, up to max_in_flight ({most:,}) batches are cut while all workers are busy, so they "
            "stay small; leave out max_in_flight, or set it to 'workers'"
        )
    yield from _of_retries(config)


def mistyped(environment: Mapping[str, str]) -> Iterator[str]:
    """One line for each variable that is not a setting but looks like one."""
    names = [_PREFIX + name.upper() for name in Config.model_fields]
    for variable in sorted(environment):
        if variable.startswith(_PREFIX) and variable not in names and variable not in _NO_SETTINGS:
            close = difflib.get_close_matches(variable, names, n=1, cutoff=_CLOSE)
            if close:
                yield f"{variable} is not a setting; did you mean {close[0]}?"


def _of_retries(config: Config) -> Iterator[str]:
    if config.retry_delay > config.max_retry_delay:
        yield (
            f"retry_delay ({config.retry_delay:g} s) is longer than max_retry_delay "
            f"({config.max_retry_delay:g} s), so every retry waits for retry_delay; raise max_retry_delay"
        )
    if config.max_retries and config.retry_for < min(config.retry_delay, config.max_retry_delay):
        yield (
            f"retry_for ({config.retry_for:g} s) is over before the first retry, after retry_delay "
            f"({config.retry_delay:g} s); raise retry_for, or set max_retries=0"
        )
    if hidden := [kind.__name__ for kind in config.retry_on if issubclass(kind, config.give_up_on)]:
        yield f"retry_on has no effect for {', '.join(hidden)}, which give_up_on has; name each in one only"
