"""What is changed in RQ's worker. The only modules of the worker that import RQ."""
