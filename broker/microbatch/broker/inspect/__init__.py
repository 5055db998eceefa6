"""Looks at a batcher's state from outside."""
