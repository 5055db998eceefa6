"""Observers, which are told of each change of events and batches."""
