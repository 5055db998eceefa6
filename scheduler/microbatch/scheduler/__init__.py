"""The process that cuts: turns waiting events into batches, and batches into jobs."""
