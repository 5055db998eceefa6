"""The process that runs batches: takes them from RQ, calls the processor, commits the outcome."""

from microbatch.broker.wire.batch import BatchInfo, PartialFailure, Reject, RetryLater

__all__ = ["BatchInfo", "PartialFailure", "Reject", "RetryLater"]
