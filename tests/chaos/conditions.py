"""The conditions of a run: the app's settings, and how fast its actors are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from microbatch.producer import Config

NAME = "chaos"


@dataclass(frozen=True, slots=True)
class Conditions:
    """``settings`` replace those of `config`. Every actor is given the conditions as text."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    run_seconds: float = 0.0
    """How much longer each run of a batch takes, until `slow_seconds` after the last fault."""
    slow_seconds: float = 0.0
    all_plain: bool = False
    """Whether no event makes its batch fail: one that does keeps a short run from its end for long."""
    pause_seconds: float = 0.02
    """How long a producer waits between two calls, on average."""

    def encode(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def decode(cls, text: str) -> Conditions:
        """From the text; those of most runs if it is empty."""
        return cls(**json.loads(text)) if text else cls()

    def config(self, **functions: Any) -> Config:
        """The app's settings. Where the server is comes from the environment, as for any app."""
        settings: dict[str, Any] = {
            "frequency": 250,
            "max_size": 40,
            "max_retries": 2,
            "retry_delay": 0.3,
            "max_in_flight": 20,
            "claim_after": 5,
            "dedupe_window": 120,
        }
        return Config(name=NAME, **{**settings, **self.settings, **functions})
