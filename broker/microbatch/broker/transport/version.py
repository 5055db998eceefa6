"""Which servers Microbatch can use."""

from __future__ import annotations

from collections.abc import Mapping

from microbatch.broker.errors import Unsupported

OLDEST_REDIS = (7, 0)
OLDEST_VALKEY = (7, 2)


def refuse_unsupported(found: Mapping[str, str], where: str) -> None:
    """Raises Unsupported unless this INFO is of Redis ≥ 7.0 or Valkey ≥ 7.2, and not in cluster mode."""
    name, oldest = ("Valkey", OLDEST_VALKEY) if "valkey_version" in found else ("Redis", OLDEST_REDIS)
    version = found.get("valkey_version") or found.get("redis_version") or "0"
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < oldest:
        raise Unsupported(
            f"the server at {where} is {name} {version}; Microbatch needs Redis 7.0 or Valkey 7.2"
        )
    if found.get("redis_mode", found.get("server_mode")) == "cluster":
        raise Unsupported(
            f"the server at {where} is in cluster mode, which RQ's keys can't live on; use a server "
            "that stands alone, or Sentinel"
        )
