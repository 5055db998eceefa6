"""Inspects a batcher's state from outside."""
