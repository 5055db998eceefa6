"""The `microbatch` command, and what it runs: the local stack, the status, the dashboard, the demo."""
