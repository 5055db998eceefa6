"""The conditions of a run: the settings of its two batchers, and the speed of its actors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from microbatch.producer import Config

NAME = "chaos"
OWN_NAME = "chaos-own"
"""The batcher whose processor returns one result per event. Clients submit to it."""
REPLY_SECONDS = 5.0
"""How long a client may not read its replies before they are lost. With the real minute, none would be."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """``settings`` replace those of `config`. Every actor gets the conditions as text."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    run_seconds: float = 0.0
    """How much longer each run of a batch takes, until `slow_seconds` after the last fault."""
    slow_seconds: float = 0.0
    all_plain: bool = False
    """Whether no event makes its batch fail. Such an event would delay the end of a short run for long."""
    pause_seconds: float = 0.02
    """How long a producer waits between two calls, on average."""

    def encode(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def decode(cls, text: str) -> Conditions:
        """Decode the text. An empty text gives the conditions of most runs."""
        return cls(**json.loads(text)) if text else cls()

    def config(self, **functions: Any) -> Config:
        """The app's settings. The address of the server comes from the environment, as for any app."""
        settings: dict[str, Any] = {
            "frequency": 250,
            "max_size": 40,
            "max_retries": 2,
            "retry_delay": 0.3,
            "max_in_flight": 20,
            "claim_after": 5,
            "dedupe_window": 120,
        }
        return Config(**{"name": NAME, **settings, **self.settings, **functions})

    def own_config(self, **functions: Any) -> Config:
        """The settings of the batcher that clients submit to."""
        own: dict[str, Any] = {"name": OWN_NAME, "per_event": True, "eager": True, "max_pending": 100}
        return self.config(**own, **functions)
