"""Settings: the sources of their values, and the errors for wrong ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from microbatch.broker.app.config import Config
from microbatch.broker.errors import ConfigError, DecodeError

DEFAULTS: dict[str, Any] = {
    "batch_processor": None,
    "result_handler": None,
    "failure_handler": None,
    "frequency": 1000,
    "max_size": 100,
    "eager": False,
    "max_bytes": 8_000_000,
    "redis_url": None,
    "key_prefix": "mb",
    "batch_timeout": 300,
    "max_retries": 3,
    "retry_delay": 1.0,
    "max_retry_delay": 30.0,
    "retry_for": 3600.0,
    "give_up_on": (),
    "retry_on": (),
    "max_worker_deaths": 3,
    "isolate_failures": True,
    "max_in_flight": 1000,
    "per_event": False,
    "max_pending": 10_000,
    "max_waiting": None,
    "block_when_full": 0.0,
    "keep_dead": None,
    "keep_dead_max": None,
    "results": "keep",
    "results_max": None,
    "max_event_bytes": 1_000_000,
    "max_result_bytes": 16_000_000,
    "dedupe_window": 0.0,
    "durability": "server",
    "lease_ttl": 2.0,
    "claim_after": 30.0,
}

OTHERS: dict[str, tuple[str, Any]] = {
    "name": ("numbers", "numbers"),
    "batch_processor": ("letters:total", "letters:total"),
    "result_handler": ("letters:show", "letters:show"),
    "failure_handler": ("letters:mourn", "letters:mourn"),
    "frequency": ("50", 50),
    "max_size": ("7", 7),
    "eager": ("true", True),
    "max_bytes": ("5000", 5_000),
    "redis_url": ("redis://cache/2", "redis://cache/2"),
    "key_prefix": ("test", "test"),
    "batch_timeout": ("9", 9),
    "max_retries": ("0", 0),
    "retry_delay": ("0.5", 0.5),
    "max_retry_delay": ("5m", 300.0),
    "retry_for": ("1d", 86_400.0),
    "give_up_on": ("OSError, microbatch.broker.errors:DecodeError", (OSError, DecodeError)),
    "retry_on": ("TimeoutError", (TimeoutError,)),
    "max_worker_deaths": ("0", 0),
    "isolate_failures": ("false", False),
    "max_in_flight": ("7", 7),
    "per_event": ("true", True),
    "max_pending": ("7", 7),
    "max_waiting": ("1000", 1000),
    "block_when_full": ("2.5", 2.5),
    "keep_dead": ("30d", 2_592_000.0),
    "keep_dead_max": ("10000", 10_000),
    "results": ("discard", "discard"),
    "results_max": ("10", 10),
    "max_event_bytes": ("100", 100),
    "max_result_bytes": ("100", 100),
    "dedupe_window": ("60", 60.0),
    "durability": ("replicated", "replicated"),
    "lease_ttl": ("0.5", 0.5),
    "claim_after": ("2.5", 2.5),
}


class Processor:
    def run(self, batch: list[int]) -> None:
        pass


def make(**settings: Any) -> Config:
    return Config(**{"name": "letters", **settings})


def refused(**settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        make(**settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_only_the_name_is_required() -> None:
    config = make()
    assert {**config.model_dump()} == {"name": "letters", **DEFAULTS}
    with pytest.raises(ConfigError, match=r"^name: Field required$"):
        Config()


def test_every_setting_is_tested_here() -> None:
    assert OTHERS.keys() == Config.model_fields.keys() == {"name", *DEFAULTS}
    assert all(setting.description for setting in Config.model_fields.values())


@pytest.mark.parametrize("setting", OTHERS)
def test_each_setting_can_come_from_the_environment(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, value = OTHERS[setting]
    monkeypatch.setenv(f"MICROBATCH_{setting.upper()}", text)
    config = Config() if setting == "name" else Config(name="letters")
    assert getattr(config, setting) == value


@pytest.mark.parametrize("given", [(ValueError,), [ValueError], ValueError, "ValueError", " ValueError ,"])
def test_a_class_of_errors_is_given_as_such_or_by_its_name(given: object) -> None:
    config = make(give_up_on=given, retry_on=given)
    assert config.give_up_on == config.retry_on == (ValueError,)


def test_arguments_win_over_the_environment_and_that_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(
        "MICROBATCH_FREQUENCY=20\nMICROBATCH_MAX_SIZE=20\nMICROBATCH_MAX_RETRIES=20\nOTHER_PROGRAM=x\n"
    )
    monkeypatch.setenv("MICROBATCH_FREQUENCY", "30")
    monkeypatch.setenv("MICROBATCH_MAX_SIZE", "30")
    monkeypatch.setenv("MICROBATCH_UNKNOWN", "30")
    config = make(frequency=40)
    assert (config.frequency, config.max_size, config.max_retries) == (40, 30, 20)
    assert config.batch_timeout == DEFAULTS["batch_timeout"]


@pytest.mark.parametrize(
    "text", [b"\xef\xbb\xbfMICROBATCH_NAME=letters\n", b"# \xc3\xa9\nMICROBATCH_NAME=letters\n"]
)
def test_a_file_of_settings_is_utf_8_with_a_mark_or_without(text: bytes) -> None:
    Path(".env").write_bytes(text)
    assert Config().name == "letters"


@pytest.mark.parametrize(
    "text",
    ["MICROBATCH_NAME=caf\u00e9\n".encode("latin-1"), "MICROBATCH_NAME=letters\n".encode("utf-16"), b"\xff"],
    ids=["latin-1", "utf-16", "bytes"],
)
def test_a_file_of_settings_that_is_not_utf_8_is_told(tmp_path: Path, text: bytes) -> None:
    Path(".env").write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        Config(name="letters")
    assert str(caught.value) == f"{tmp_path}/.env is not UTF-8: save it as UTF-8"


def test_a_file_of_settings_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    Path(".env").symlink_to("/proc/self/mem")  # even root can't read it from its beginning
    with pytest.raises(ConfigError) as caught:
        Config(name="letters")
    assert str(caught.value) == f"{tmp_path}/.env can't be read: Input/output error"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROBATCH_FREQUENCY", "")
    monkeypatch.setenv("MICROBATCH_REDIS_URL", "")
    config = make()
    assert (config.frequency, config.redis_url) == (1000, None)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("max_size", 25_001, "Input should be less than or equal to 25000, not 25001"),
        ("max_bytes", 8_000_001, "Input should be less than or equal to 8000000, not 8000001"),
        ("max_bytes", 0, "Input should be greater than 0, not 0"),
        ("frequency", 0, "Input should be greater than 0, not 0"),
        ("frequency", -1, "Input should be greater than 0, not -1"),
        ("frequency", "soon", "Input should be a valid integer.*, not 'soon'"),
        ("frequency", 1.5, "Input should be a valid integer.*, not 1.5"),
        ("frequency", None, "Input should be a valid integer, not None"),
        ("max_size", 0, "Input should be greater than 0, not 0"),
        ("max_size", "many", "Input should be a valid integer.*, not 'many'"),
        ("batch_timeout", 0, "Input should be greater than 0, not 0"),
        ("batch_timeout", 10**10, "Input should be less than or equal to 31536000, not 10000000000"),
        ("dedupe_window", float("inf"), "Input should be less than or equal to 31536000, not inf"),
        ("claim_after", float("nan"), "Input should be .*, not nan"),
        ("lease_ttl", 1e20, "Input should be less than or equal to 31536000, not 1e[+]20"),
        ("max_retries", -1, "Input should be greater than or equal to 0, not -1"),
        ("retry_delay", -0.1, "Input should be greater than or equal to 0, not -0.1"),
        ("max_retry_delay", "-1s", "'-1s' is not a duration; .*"),
        ("max_retry_delay", -1, "Input should be greater than or equal to 0, not -1"),
        ("retry_for", "2 years", "'2 years' is not a duration; .*"),
        ("retry_for", "400d", "Input should be less than or equal to 31536000, not '400d'"),
        ("max_worker_deaths", -1, "Input should be greater than or equal to 0, not -1"),
        ("max_in_flight", 0, "0 is not a bound; write a number of batches above 0, 'workers', .*"),
        ("max_in_flight", True, "True is not a bound; .*"),
        ("max_in_flight", 2.5, "2.5 is not a bound; .*"),
        ("max_in_flight", None, "None is not a bound; .*"),
        ("max_in_flight", "", "'' is not a bound; .*"),
        ("max_in_flight", "worker", "'worker' is not a bound; .*"),
        ("max_in_flight", "0*workers", r"'0\*workers' is not a bound; .*"),
        ("max_in_flight", "101*workers", r"'101\*workers' is not a bound; .* up to '100\*workers'"),
        ("max_in_flight", "-1*workers", r"'-1\*workers' is not a bound; .*"),
        ("max_in_flight", "2*workers+1", r"'2\*workers\+1' is not a bound; .*"),
        ("give_up_on", (ValueError, int), "Input should be a subclass of BaseException, not <class 'int'>"),
        ("give_up_on", "OSErorr", "'OSErorr' names no class of errors .*; write it as 'OSError' or .*"),
        ("give_up_on", "no.such.module:Error", "'no.such.module:Error' names no class of errors .*"),
        ("retry_on", "len", "'len' is not a class of errors"),
        ("retry_on", 5, "Input should be a valid tuple, not 5"),
        ("lease_ttl", 0.4, "Input should be greater than or equal to 0.5, not 0.4"),
        ("claim_after", 0, "Input should be greater than or equal to 1, not 0"),
        ("name", "", "'' won't do: use 1 to 100 letters, digits, .*"),
        ("name", "a b", "'a b' won't do: .*"),
        ("name", "{letters}", "'{letters}' won't do: .*"),
        ("name", "letters\n", r"'letters\\n' won't do: .*"),
        ("name", "-letters", "'-letters' won't do: .*"),
        ("name", "ä", "'ä' won't do: .*"),
        ("name", "x" * 101, "'x+' won't do: .*"),
        ("name", 5, "Input should be a valid string, not 5"),
        ("key_prefix", "a:b", "'a:b' won't do: .*"),
        ("batch_processor", 5, r"must be a function, an object with run\(\), .*, not 5"),
        ("batch_processor", "total", "'total' is not an import string; .*'package.module:name'"),
        ("result_handler", object(), "must be a function, .*"),
        ("failure_handler", ":mourn", "':mourn' is not an import string; .*"),
        ("redis_url", "cache:6379", "unknown scheme 'cache://'; use redis://.*"),
        ("redis_url", "redis://cache:x", "what follows the host is not a port; use redis://.*"),
        ("redis_url", 5, "Input should be a valid string"),
    ],
)
def test_a_wrong_setting_is_named_and_told(setting: str, value: object, message: str) -> None:
    assert re.fullmatch(f"{setting}: {message}", refused(**{setting: value}))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("workers", "workers"),
        ("1*workers", "workers"),
        (" 2 * workers ", "2*workers"),
        ("100*workers", "100*workers"),
        ("8", 8),
        (1, 1),
    ],
)
def test_a_bound_is_read_in_its_shortest_form(given: int | str, read: int | str) -> None:
    assert make(max_in_flight=given).max_in_flight == read


def test_with_eager_the_bound_depends_on_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(eager=True).max_in_flight == "workers"
    assert make(eager=True, max_in_flight=7).max_in_flight == 7
    assert make(eager=True, max_in_flight=1000).max_in_flight == 1000
    monkeypatch.setenv("MICROBATCH_MAX_IN_FLIGHT", "2*workers")
    assert make(eager=True).max_in_flight == "2*workers"


def test_a_wrong_setting_in_the_environment_is_named_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROBATCH_FREQUENCY", "soon")
    assert refused().startswith("frequency: Input should be a valid integer")
    assert refused().endswith(", not 'soon'")


def test_all_wrong_settings_are_told_at_once() -> None:
    told = refused(frequency=0, max_size="many")
    assert "frequency: " in told
    assert "; max_size: " in told


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("frequenzy", "there is no setting 'frequenzy'; did you mean 'frequency'?"),
        ("maxsize", "there is no setting 'maxsize'; did you mean 'max_size'?"),
        ("colour", "there is no setting 'colour'"),
    ],
)
def test_an_unknown_setting_is_refused(given: str, message: str) -> None:
    assert refused(**{given: 1}) == message


def test_a_config_error_is_a_value_error_without_pydantic_behind_it() -> None:
    with pytest.raises(ValueError, match="frequency") as caught:
        make(frequency=0)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("value", [len, Processor(), Processor().run, "package.module:name"])
def test_processors_and_handlers_are_kept_as_they_are(value: object) -> None:
    config = make(batch_processor=value, result_handler=value, failure_handler=value)
    assert config.batch_processor is config.result_handler is config.failure_handler is value


def test_a_config_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make().frequency = 5  # type: ignore[misc]


def test_the_address_of_the_server_is_not_shown() -> None:
    config = make(redis_url="redis://:hunter2@cache")
    assert "hunter2" not in repr(config) + str(config)
    assert "letters" in repr(config)


@pytest.mark.parametrize(
    "url", ["redis://:hunter2/@cache", "rredis://:hunter2@cache", "redis://:h#hunter2@c"]
)
def test_no_password_is_told_with_what_is_wrong_about_its_url(url: str) -> None:
    assert "hunter2" not in refused(redis_url=url, frequency=0)


def test_a_missing_url_is_asked_for_when_it_is_needed() -> None:
    with pytest.raises(
        ConfigError, match=r"redis_url is not set: set MICROBATCH_REDIS_URL .* or use `microbatch run`"
    ):
        make().required_url()
    assert make(redis_url="redis://cache").required_url() == "redis://cache"


def test_durations_are_milliseconds_internally() -> None:
    config = make(lease_ttl=2.5, claim_after=1.25)
    assert (config.lease_ttl_ms, config.claim_after_ms) == (2_500, 1_250)


@pytest.mark.parametrize("handler", ["result_handler", "failure_handler"])
def test_what_is_discarded_has_no_handler(handler: str) -> None:
    settings: dict[str, Any] = {"name": "letters", "results": "discard", handler: print}
    with pytest.raises(ConfigError, match=f"results: 'discard' leaves nothing for {handler}"):
        Config(**settings)
    assert Config(name="letters", results="discard").results == "discard"
