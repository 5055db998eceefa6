"""What an application imports: record events, and handle what comes of them."""

from microbatch.broker.batch import BatchFailure, BatchInfo, PartialFailure
from microbatch.broker.config import Config
from microbatch.producer.batcher import MicroBatcher, start

__all__ = ["BatchFailure", "BatchInfo", "Config", "MicroBatcher", "PartialFailure", "start"]
