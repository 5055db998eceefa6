"""What Microbatch does in a second, compared with other systems on the same machine: ``make bench``."""
