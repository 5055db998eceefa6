"""A target: an app, or the name of a batcher."""

from __future__ import annotations

from pathlib import Path

import pytest

from microbatch.broker.errors import AppError, ConfigError
from microbatch.ops.target import is_app, load_target


@pytest.mark.parametrize(
    ("target", "app"),
    [
        ("letters", False),
        ("my.letters-2", False),
        ("letters:config", True),
        ("package.letters:config", True),
        ("letters.py", True),
        ("letters.py:config", True),
        ("./letters.py", True),
        ("folder/letters", True),
    ],
)
def test_a_bare_word_is_a_name(target: str, *, app: bool) -> None:
    assert is_app(target) is app


def test_a_name_has_the_settings_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROBATCH_KEY_PREFIX", "mine")
    config = load_target("letters")
    assert (config.name, config.key_prefix) == ("letters", "mine")


def test_a_name_is_one_even_beside_a_module_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "letters.py").write_text("raise SystemExit")
    assert load_target("letters").name == "letters"


def test_a_target_that_is_neither_is_refused() -> None:
    with pytest.raises(ConfigError, match="name: 'my letters' won't do"):
        load_target("my letters")
    with pytest.raises(AppError, match=r"there is no file 'nothing\.py'"):
        load_target("nothing.py")
