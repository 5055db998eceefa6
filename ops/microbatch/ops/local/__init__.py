"""A local server, scheduler and workers, as child processes of one command."""
