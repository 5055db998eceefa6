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
    WrongLoop,
)
from microbatch.broker.wire.batch import BatchFailure, BatchInfo, PartialFailure, Reject, RetryLater
from microbatch.producer.aio.client import AsyncMicroBatcher
from microbatch.producer.aio.connecting import connect
from microbatch.producer.aio.stream import Received, ResultStream
from microbatch.producer.background import BackgroundConsumer
from microbatch.producer.batcher import MicroBatcher
from microbatch.producer.matching import match
from microbatch.producer.starting import start

__all__ = [
    "AlreadyRecorded",
    "AppError",
    "AsyncMicroBatcher",
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
    "Received",
    "Refused",
    "RefusedForNow",
    "Reject",
    "ReplyLost",
    "ResultStream",
    "RetryLater",
    "ServerError",
    "Stopped",
    "TooManyPending",
    "Unavailable",
    "Unsupported",
    "WrongLoop",
    "connect",
    "match",
    "start",
]
