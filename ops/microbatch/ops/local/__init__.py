"""A local server, scheduler and workers, as children of one command."""
