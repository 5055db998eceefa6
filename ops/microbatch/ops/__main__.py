"""``python -m microbatch.ops``: the command, where its script is not on the path."""

from microbatch.ops.cli import main

if __name__ == "__main__":
    main()
