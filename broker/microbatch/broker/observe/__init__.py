"""Who is told of each change of events and batches."""
