"""Apps: where a Config is found, and what is told where it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from microbatch.broker.app import app_file, load_config, load_config_from_environment
from microbatch.broker.errors import AppError

ONE = 'from microbatch.producer import Config\nconfig = Config(name="letters")\n'
TWO = ONE + 'numbers = Config(name="numbers")\n'


@pytest.fixture(autouse=True)
def fresh_imports() -> Iterator[None]:
    """What a test imports, and where it looks for it, is forgotten after it."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(app: str) -> str:
    with pytest.raises(AppError) as caught:
        load_config(app)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "app", ["app_one", "app_one:config", "app_one.py", "app_one.py:config", "./app_one.py"]
)
def test_an_app_is_a_module_or_a_file_in_the_current_folder(app: str) -> None:
    write("app_one.py", ONE)
    assert load_config(app).name == "letters"


def test_an_attribute_says_which_of_several(tmp_path: Path) -> None:
    write("app_two.py", TWO)
    assert load_config("app_two:numbers").name == "numbers"
    assert load_config(f"{tmp_path}/app_two.py:config").name == "letters"


def test_a_config_under_two_names_is_one() -> None:
    write("app_alias.py", ONE + "alias = config\n")
    assert load_config("app_alias").name == "letters"


def test_a_module_may_be_in_a_package() -> None:
    write("app_package/__init__.py", "")
    write("app_package/inner.py", ONE)
    assert load_config("app_package.inner:config").name == "letters"


def test_a_file_imports_its_neighbours() -> None:
    write("elsewhere/app_neighbour.py", "NAME = 'neighbour'\n")
    write(
        "elsewhere/app_near.py",
        "import app_neighbour\nfrom microbatch.producer import Config\n"
        "config = Config(name=app_neighbour.NAME)\n",
    )
    assert load_config("elsewhere/app_near.py").name == "neighbour"


def test_an_app_is_imported_once() -> None:
    write("app_once.py", ONE)
    assert load_config("app_once.py") is load_config("app_once.py:config")
    assert load_config("app_once") is load_config("app_once.py")


def test_a_file_is_the_module_of_its_name() -> None:
    """So import strings, annotations and pickles of what is defined in it lead there."""
    write("app_named.py", ONE)
    config = load_config("app_named.py")
    assert sys.modules["app_named"].config is config


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("no_such_app", "there is no module 'no_such_app' here; name a module or a file, as letters"),
        ("no_such_package.app:config", "there is no module 'no_such_package.app' here"),
        ("no_such_app.py", "there is no file 'no_such_app.py'"),
        ("no/such/app.py:config", "there is no file 'no/such/app.py'"),
        ("", "'' names no app; name a module or a file, as letters:config or letters.py"),
        (".", "'.' names no app; name a module"),
        ("letters..py:config", "there is no file 'letters..py'"),
        (":config", "':config' names no app; name a module"),
    ],
)  # fmt: skip
def test_an_app_that_is_not_there(app: str, message: str) -> None:
    assert refused(app).startswith(message)


@pytest.mark.parametrize("app", ["app_bad", "app_bad.py"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "APP has no Config; make one at the top level: config = Config(name=..., ...)"),
        (TWO, "APP has several Configs (config, numbers); say which: APP:config"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("1 / 0\n", "APP can't be imported: ZeroDivisionError: division by zero"),
        ("def f(:\n", "APP can't be imported: SyntaxError: invalid syntax"),
        (ONE.replace(")", ", max_size=0)"), "max_size: Input should be greater than 0, not 0"),
        (ONE.replace(")", ", colour=0)"), "there is no setting 'colour'"),
    ],
)
def test_an_app_that_will_not_do(app: str, text: str, message: str) -> None:
    write("app_bad.py", text)
    told = refused(app)
    assert message.replace("APP", app) in told
    assert told.startswith(app)
    assert "ConfigError" not in told


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("app_one:nothing", "app_one:nothing: 'nothing' must be a Config, but there is none"),
        ("app_one:Config", "app_one:Config: 'Config' must be a Config, but it is a ModelMetaclass"),
        ("app_one.py:number", "app_one.py:number: 'number' must be a Config, but it is a int"),
    ],
)
def test_an_attribute_that_is_no_config(app: str, message: str) -> None:
    write("app_one.py", ONE + "number = 5\n")
    assert refused(app) == message


def test_a_file_that_is_not_python() -> None:
    write("./data/letters", "a b c")
    assert refused("./data/letters") == "data/letters is not a Python file"


def test_a_file_that_failed_can_be_mended() -> None:
    write("app_mended.py", "1 / 0\n")
    refused("app_mended.py")
    write("app_mended.py", ONE)
    assert load_config("app_mended.py").name == "letters"


def test_workers_are_told_their_app_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AppError, match=r"MICROBATCH_APP is not set: set it to the app .*, as letters:config"):
        load_config_from_environment()
    write("app_one.py", ONE)
    monkeypatch.setenv("MICROBATCH_APP", "app_one:config")
    assert load_config_from_environment().name == "letters"


def test_the_file_of_an_app() -> None:
    assert app_file("letters.py:config") == Path("letters.py")
    assert app_file("examples/letters.py") == Path("examples/letters.py")
    assert app_file("letters:config") is None
