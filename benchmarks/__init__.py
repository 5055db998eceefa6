"""What Microbatch does in a second, held against what others do on the same machine: ``make bench``."""
