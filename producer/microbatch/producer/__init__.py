"""What an application imports: record events, and handle what comes of them."""

from microbatch.broker.batch import BatchFailure, BatchInfo, PartialFailure, Reject, RetryLater
from microbatch.broker.config import Config
from microbatch.producer.background import BackgroundConsumer
from microbatch.producer.batcher import MicroBatcher, start

__all__ = [
    "BackgroundConsumer",
    "BatchFailure",
    "BatchInfo",
    "Config",
    "MicroBatcher",
    "PartialFailure",
    "Reject",
    "RetryLater",
    "start",
]
