"""What an application imports: it records events, and handles their results."""

from microbatch.broker.app.config import Config
from microbatch.broker.errors import (
    AppError,
    BatcherFull,
    ConfigError,
    DecodeError,
    EncodeError,
    InDoubt,
    MicrobatchError,
    Refused,
    RefusedForNow,
    ServerError,
    Stopped,
    Unavailable,
    Unsupported,
)
from microbatch.broker.wire.batch import BatchFailure, BatchInfo, PartialFailure, Reject, RetryLater
from microbatch.producer.background import BackgroundConsumer
from microbatch.producer.batcher import MicroBatcher
from microbatch.producer.starting import start

__all__ = [
    "AppError",
    "BackgroundConsumer",
    "BatchFailure",
    "BatchInfo",
    "BatcherFull",
    "Config",
    "ConfigError",
    "DecodeError",
    "EncodeError",
    "InDoubt",
    "MicroBatcher",
    "MicrobatchError",
    "PartialFailure",
    "Refused",
    "RefusedForNow",
    "Reject",
    "RetryLater",
    "ServerError",
    "Stopped",
    "Unavailable",
    "Unsupported",
    "start",
]
