"""``python -m tests.outage``: a database is away for a while. The exit code is 1 if that does harm."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.outage.trial import Trial


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.outage")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the database is away")
    parser.add_argument("--poison", type=int, default=1, help="bad events that are recorded meanwhile")
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="microbatch-outage-"))
    folder.chmod(0o755)
    with Trial(folder, say=lambda line: print(line, flush=True)) as trial:
        result = trial.play(arguments.seconds, poison=arguments.poison)
    print(result)
    if result.failures:
        print("failed:", "; ".join(result.failures), f"(logs in {folder})")
        return 1
    print("passed")
    if not arguments.keep:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
