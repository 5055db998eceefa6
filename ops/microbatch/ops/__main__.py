"""``python -m microbatch.ops``: the command, where its script is not on the path."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # The current folder, which Python puts first: a click.py or random.py there is not ours.
        del sys.path[0]
    from microbatch.ops.cli import main

    main()
