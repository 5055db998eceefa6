"""What an application imports: it records events, and handles their results."""

from microbatch.broker.app.config import Config
from microbatch.broker.errors import (
    AlreadyRecorded,
    AppError,
    BatcherFull,
    Closed,
    ConfigError,
    DecodeError,
    EncodeError,
    EventExpired,
    EventFailed,
    InDoubt,
    MicrobatchError,
    NoReply,
    Refused,
    RefusedForNow,
    ReplyLost,
    ServerError,
    Stopped,
    TooManyPending,
    Unavailable,
    Unsupported,
)
from microbatch.broker.wire.batch import BatchFailure, BatchInfo, PartialFailure, Reject, RetryLater
from microbatch.producer.background import BackgroundConsumer
from microbatch.producer.batcher import MicroBatcher
from microbatch.producer.matching import match
from microbatch.producer.starting import start

__all__ = [
    "AlreadyRecorded",
    "AppError",
    "BackgroundConsumer",
    "BatchFailure",
    "BatchInfo",
    "BatcherFull",
    "Closed",
    "Config",
    "ConfigError",
    "DecodeError",
    "EncodeError",
    "EventExpired",
    "EventFailed",
    "InDoubt",
    "MicroBatcher",
    "MicrobatchError",
    "NoReply",
    "PartialFailure",
    "Refused",
    "RefusedForNow",
    "Reject",
    "ReplyLost",
    "RetryLater",
    "ServerError",
    "Stopped",
    "TooManyPending",
    "Unavailable",
    "Unsupported",
    "match",
    "start",
]
