"""The process that runs batches: it claims them, calls the processor, and commits the outcome."""

from microbatch.broker.wire.batch import BatchInfo, PartialFailure, Reject, RetryLater

__all__ = ["BatchInfo", "PartialFailure", "Reject", "RetryLater"]
