"""What is written to the server and read from it: events, headers, run records, outcomes. No I/O."""
