"""The `microbatch` command and its parts: the local stack, the status, the dashboard, the demo."""

from microbatch.ops.pid_one import end_by_signals

end_by_signals()  # before the imports of the command, which take half a second
