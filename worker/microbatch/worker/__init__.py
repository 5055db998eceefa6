"""The process that runs batches: takes them from RQ, calls the processor, commits the outcome."""
