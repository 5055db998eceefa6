"""The settings of one batcher, checked when they are made."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, Unpack

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from microbatch.broker.app import functions
from microbatch.broker.app.durations import Duration
from microbatch.broker.app.error_classes import ErrorClasses
from microbatch.broker.app.names import Name
from microbatch.broker.app.setting_errors import describe, refuse_unknown
from microbatch.broker.app.settings import Settings
from microbatch.broker.errors import ConfigError
from microbatch.broker.policy.bounds import MAX_BYTES, MAX_SIZE, MOST_RESULT_BYTES
from microbatch.broker.policy.in_flight_bound import EAGER_DEFAULT, read_bound
from microbatch.broker.transport.url import URL_HELP, split_url

_YEAR = 31_536_000  # seconds; alarm(2) and the server accept it


class Config(BaseSettings):
    """One batcher: what to do with a batch, when to cut one, and where.

    A setting without an argument comes from the environment (``MICROBATCH_`` and its name in capitals), then
    from a ``.env`` file in the current folder, then from its default.

    Raises:
        ConfigError: a setting is wrong. The message names it.
    """

    model_config = SettingsConfigDict(
        env_prefix="MICROBATCH_",
        env_file=".env",
        env_file_encoding="utf-8-sig",  # with or without the byte order mark that some editors write
        env_ignore_empty=True,
        extra="ignore",  # a .env file holds other programs' settings too
        frozen=True,
        arbitrary_types_allowed=True,
    )

    name: Annotated[Name, Field(description="The batcher's name.")]
    batch_processor: Annotated[
        Any,
        Field(
            description="Called on a worker with each batch: a function, an object with `run`, `module:name`."
        ),
    ] = None
    result_handler: Annotated[
        Any,
        Field(description="Called by `wait_for_results()` with each result; forms as for `batch_processor`."),
    ] = None
    failure_handler: Annotated[
        Any,
        Field(description="Called by `wait_for_results()` with each dead batch; by default it is logged."),
    ] = None
    frequency: Annotated[int, Field(gt=0, description="The length of a cycle, in milliseconds.")] = 1000
    per_event: Annotated[
        bool, Field(description="Whether the processor returns one result per event, as for `submit()`.")
    ] = False
    max_size: Annotated[
        int,
        Field(gt=0, le=MAX_SIZE, description="The most events in a batch; one is cut when this many wait."),
    ] = 100
    eager: Annotated[
        bool,
        Field(description="Whether waiting events are cut as soon as a worker is free, without a tick."),
    ] = False
    max_bytes: Annotated[
        int,
        Field(gt=0, le=MAX_BYTES, description="The most bytes in a batch; a larger event is alone in one."),
    ] = MAX_BYTES
    redis_url: Annotated[
        str | None,
        Field(
            repr=False, description="The server: `redis://`, `rediss://`, `unix://` or `redis+sentinel://`."
        ),
    ] = None
    key_prefix: Annotated[
        Name, Field(description="The prefix of the batcher's keys and of RQ's queue, as in `mb:letters`.")
    ] = "mb"
    batch_timeout: Annotated[
        int,
        Field(gt=0, le=_YEAR, description="How long one run of a batch may take, in seconds."),
    ] = 300
    max_retries: Annotated[
        int, Field(ge=0, description="How many times a batch that fails while others succeed is retried.")
    ] = 3
    retry_delay: Annotated[
        Duration,
        Field(
            ge=0,
            le=_YEAR,
            description="The wait before the first retry, in seconds; it doubles with each retry, ± 25 %.",
        ),
    ] = 1.0
    max_retry_delay: Annotated[
        Duration,
        Field(ge=0, le=_YEAR, description="The longest retry delay, ± 25 %, in seconds or as in `10m`."),
    ] = 30.0
    retry_for: Annotated[
        Duration,
        Field(
            ge=0,
            le=_YEAR,
            description="For how long after its first failure a batch is retried, in seconds or as in `1d`.",
        ),
    ] = 3600.0
    give_up_on: Annotated[
        ErrorClasses,
        Field(
            description="Errors that are not retried: the failing events are isolated at once, and are dead."
        ),
    ] = ()
    retry_on: Annotated[
        ErrorClasses,
        Field(description="The only errors that are retried; by default all are, except `give_up_on`."),
    ] = ()
    max_worker_deaths: Annotated[
        int, Field(ge=0, description="How many times a batch is run again after its worker died in a run.")
    ] = 3
    isolate_failures: Annotated[
        bool,
        Field(description="Whether a batch that is out of retries is halved down to the events that fail."),
    ] = True
    max_in_flight: Annotated[
        int | str,
        BeforeValidator(read_bound),
        Field(description="The most batches queued or running; with `eager`, the default is `workers`."),
    ] = 1000
    max_waiting: Annotated[
        int | None,
        Field(gt=0, description="The most events that may wait; by default as many as the server holds."),
    ] = None
    block_when_full: Annotated[
        float,
        Field(ge=0, le=_YEAR, description="How long recording waits for room before it raises, in seconds."),
    ] = 0.0
    max_pending: Annotated[
        int,
        Field(gt=0, description="The most submitted events of one process whose replies have not come yet."),
    ] = 10_000
    keep_dead: Annotated[
        Duration | None,
        Field(
            ge=1,
            le=10 * _YEAR,
            description="How long dead batches and quarantined keys are kept; by default forever.",
        ),
    ] = None
    keep_dead_max: Annotated[
        int | None,
        Field(gt=0, description="The most dead batches, and quarantined keys, that are kept: the newest."),
    ] = None
    results: Annotated[
        Literal["keep", "discard"],
        Field(
            description="Whether results and failures are kept for a handler; dead batches are kept anyway."
        ),
    ] = "keep"
    results_max: Annotated[
        int | None, Field(gt=0, description="Cutting is held back while this many results await a handler.")
    ] = None
    max_event_bytes: Annotated[
        int, Field(gt=0, description="The largest event that may be recorded, as JSON, in bytes.")
    ] = 1_000_000
    max_result_bytes: Annotated[
        int,
        Field(gt=0, le=MOST_RESULT_BYTES, description="The largest result, as JSON, in bytes."),
    ] = 16_000_000
    dedupe_window: Annotated[
        float,
        Field(
            ge=0, le=_YEAR, description="How long an event's id is remembered, in seconds; 0 for not at all."
        ),
    ] = 0.0
    durability: Annotated[
        Literal["server", "replicated"],
        Field(description="What holds an event once it is recorded: the server, or also a replica of it."),
    ] = "server"
    lease_ttl: Annotated[
        float,
        Field(
            ge=0.5,
            le=_YEAR,
            description="How long an active scheduler may be silent before a standby takes over, in seconds.",
        ),
    ] = 2.0
    claim_after: Annotated[
        float,
        Field(
            ge=1,
            le=_YEAR,
            description="How long a consumer may be silent before its results go to others, in seconds.",
        ),
    ] = 30.0

    def __init__(self, **settings: Unpack[Settings]) -> None:
        refuse_unknown(settings, list(type(self).model_fields))
        try:
            super().__init__(**settings)
        except (ValueError, OSError) as error:  # from pydantic, or from reading the .env file
            raise ConfigError(describe(error)) from None

    @field_validator("redis_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None:
            split_url(value)
        return value

    @field_validator("batch_processor", "result_handler", "failure_handler")
    @classmethod
    def _check_function(cls, value: object, info: Any) -> object:
        if value is not None:
            functions.check_reference(info.field_name, value)
        return value

    @model_validator(mode="after")
    def _check_results(self) -> Self:
        for handler in ("result_handler", "failure_handler"):
            if self.results == "discard" and getattr(self, handler) is not None:
                raise ValueError(f"results: 'discard' leaves nothing for {handler}; leave out one of them")
        return self

    @model_validator(mode="after")
    def _set_bound(self) -> Self:
        if self.eager and "max_in_flight" not in self.model_fields_set:
            object.__setattr__(self, "max_in_flight", EAGER_DEFAULT)  # the model is frozen for its users only
        return self

    def required_url(self) -> str:
        """The server's URL. Raises ConfigError, saying what to do, if none was set."""
        if self.redis_url is None:
            help_text = f"set MICROBATCH_REDIS_URL to your Redis or Valkey server ({URL_HELP})"
            raise ConfigError(f"redis_url is not set: {help_text}, or use `microbatch run` for a local one")
        return self.redis_url

    @property
    def lease_ttl_ms(self) -> int:
        return int(self.lease_ttl * 1000)

    @property
    def claim_after_ms(self) -> int:
        return int(self.claim_after * 1000)
