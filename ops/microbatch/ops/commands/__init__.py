"""The subcommands, one module each, whose name is the subcommand's."""
