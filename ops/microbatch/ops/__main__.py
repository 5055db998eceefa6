"""``python -m microbatch.ops``: the command, for when its script is not on the path."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # Python puts the current folder first, and a click.py or random.py there would be imported instead.
        del sys.path[0]
    from microbatch.ops.cli import main

    main()
