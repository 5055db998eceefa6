"""Changes to RQ's worker. Only these modules of the worker import RQ."""
