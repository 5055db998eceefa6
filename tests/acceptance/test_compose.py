"""compose.yaml, as far as it can be checked without starting its services."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from tests import programs

ROOT = Path(__file__).parents[2]


def stack(**settings: str) -> dict[str, dict[str, Any]]:
    """The services, with these environment variables."""
    command = programs.need("docker-compose")
    ours = ("MICROBATCH_", "VALKEY_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    done = subprocess.run(
        [*command, "--file", str(ROOT / "compose.yaml"), "config", "--format", "json"],
        env={**environment, **settings}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    services: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return services


def replicas(services: dict[str, dict[str, Any]], name: str) -> int:
    return int(services[name]["deploy"]["replicas"])


def test_the_stack_by_itself() -> None:
    services = stack()
    assert {name: replicas(services, name) for name in services if name != "dashboard"} == {
        "valkey": 1,
        "scheduler": 2,
        "worker": 1,
        "producer": 0,
        "consumer": 0,
    }
    for name, service in services.items():
        if name != "valkey":
            assert service["environment"]["MICROBATCH_REDIS_URL"] == "redis://:@valkey:6379/0"
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
            assert int(service["deploy"]["resources"]["limits"]["memory"]) in (256 << 20, 1 << 30)


def test_base_images_are_named_by_digest() -> None:
    """A build then uses the same parts in a year as today."""
    texts = [(ROOT / name).read_text("utf-8") for name in ("Dockerfile", "compose.yaml")]
    found = re.findall(r"(?:ARG BASE=|image: \$\{VALKEY_IMAGE:-)(\S+?)\}?$", "\n".join(texts), re.MULTILINE)
    assert len(found) == 2
    for image in found:
        assert re.fullmatch(r"[a-z/]+:[\w.-]+@sha256:[0-9a-f]{64}", image)


def test_another_server_and_more_workers() -> None:
    url = "redis://redis.example.com:6379/0"
    services = stack(MICROBATCH_REDIS_URL=url, MICROBATCH_VALKEY="0", MICROBATCH_WORKERS="4")
    assert (replicas(services, "valkey"), replicas(services, "worker")) == (0, 4)
    assert services["worker"]["environment"]["MICROBATCH_REDIS_URL"] == url


def test_a_password_is_everybody_s() -> None:
    services = stack(VALKEY_PASSWORD="sesame")
    assert services["worker"]["environment"]["MICROBATCH_REDIS_URL"] == "redis://:sesame@valkey:6379/0"
    assert services["valkey"]["command"][-2:] == ["--requirepass", "sesame"]
    assert services["valkey"]["environment"]["REDISCLI_AUTH"] == "sesame"


def test_an_app_of_one_s_own() -> None:
    services = stack(
        MICROBATCH_APP="orders:config",
        MICROBATCH_APP_FOLDER="/srv/orders",
        MICROBATCH_IMAGE="orders",
        MICROBATCH_BUILD="/srv/image",
    )
    assert services["worker"]["image"] == "orders"
    assert services["worker"]["build"]["context"] == "/srv/image"
    assert services["worker"]["command"][:2] == ["worker", "orders:config"]
    assert services["worker"]["volumes"][0]["source"] == "/srv/orders"
