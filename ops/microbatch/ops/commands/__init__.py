"""The subcommands: one module each, with the name of the subcommand."""
