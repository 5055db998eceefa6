"""Apps: where a Config is found, and the error if it is not."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from microbatch.broker.app import importing
from microbatch.broker.app.loading import app_file, load_config, load_config_from_environment
from microbatch.broker.errors import AppError

ONE = 'from microbatch.producer import Config\nconfig = Config(name="letters")\n'
TWO = ONE + 'numbers = Config(name="numbers")\n'


@pytest.fixture(autouse=True)
def fresh_imports() -> Iterator[None]:
    """Undo a test's imports and its changes to the import path."""
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
    """Import strings, annotations and pickles that refer to its definitions then lead to it."""
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
def test_an_unusable_app(app: str, text: str, message: str) -> None:
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


def test_a_file_that_failed_can_be_repaired() -> None:
    write("app_repaired.py", "1 / 0\n")
    refused("app_repaired.py")
    write("app_repaired.py", ONE)
    assert load_config("app_repaired.py").name == "letters"


PROGRAM = """\
from microbatch.producer import Config, MicroBatcher, start
config = Config(name="letters", redis_url="unix:///nowhere")
"""
BEHIND_THE_GUARD = 'put the program under `if __name__ == "__main__":`'


@pytest.mark.parametrize("app", ["app_program.py", "app_program", "app_program:config"])
@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("batcher = start(config)\n", 3, "calls start() while it is imported"),
        ("with start(config) as batcher:\n    batcher.record_event(1)\n", 3, "calls start() while it"),
        ("def main():\n    start(config)\n\nmain()\n", 6, "calls start() while it is imported"),
        (
            "import asyncio\nasync def main():\n    start(config)\nasyncio.run(main())\n",
            6,
            "calls start() while it is imported",
        ),
        ("MicroBatcher(config).wait_for_results()\n", 3, "calls wait_for_results() while it is imported"),
        ("MicroBatcher(config).start_consuming()\n", 3, "calls start_consuming() while it is imported"),
    ],
)
def test_a_program_without_a_guard_is_told(app: str, text: str, line: int, told: str) -> None:
    path = write("app_program.py", PROGRAM + text).resolve()
    said = refused(app)
    assert said.startswith(f"{app.partition(':')[0]} can't be imported: {path}, line {line}: it {told}")
    assert BEHIND_THE_GUARD in said


@pytest.mark.parametrize("text", ["import sys\nsys.exit()\n", "raise SystemExit('enough')\n", "exit(3)\n"])
def test_a_program_that_ends_while_it_is_imported_is_told(text: str) -> None:
    write("app_ends.py", text)
    said = refused("app_ends.py")
    assert said.startswith("app_ends.py can't be imported: it ends the program (exit code ")
    assert BEHIND_THE_GUARD in said


def test_a_batcher_may_be_started_when_the_app_is_imported() -> None:
    write("app_later.py", PROGRAM + "def make():\n    return MicroBatcher(config)\n")
    load_config("app_later.py")
    importing.refuse_while_importing("start()")  # must not raise


def test_an_import_that_takes_long_is_told(caplog: pytest.LogCaptureFixture) -> None:
    path = write("app_slow.py", ONE + "import time\n\n\ntime.sleep(0.8)\n").resolve()
    with importing.importing("app_slow.py", slow_seconds=0.4):
        load_config("app_slow.py")
    (record,) = caplog.records
    assert record.getMessage() == f"still importing app_slow.py after 0.4 s; it is at {path}, line 6"


@pytest.mark.parametrize("name", ["random", "queue", "calendar", "types", "asyncio", "this"])
@pytest.mark.parametrize("form", ["{}.py", "{}:config", "./{}.py:config"])
def test_an_app_with_the_name_of_a_module_of_python(name: str, form: str) -> None:
    path = write(f"{name}.py", ONE).resolve()
    said = refused(form.format(name))
    assert said.endswith(f"{name}.py has the name of a module of Python's own library; rename it")
    assert getattr(sys.modules.get(name), "__file__", None) != str(path)


@pytest.mark.parametrize("app", ["redis.py", "redis:config", "click.py:config"])
def test_an_app_with_the_name_of_a_package_that_is_in_use(app: str) -> None:
    name = app.partition(":")[0].removesuffix(".py")
    loaded = importlib.import_module(name)
    write(f"{name}.py", ONE)
    assert (
        f"{name}.py has the name of the module '{name}' that is imported from {loaded.__file__}"
        in refused(app)
    )
    assert sys.modules[name] is loaded


@pytest.mark.parametrize("app", ["microbatch.py", "microbatch.py:config", "app_one.py", "app_one:config"])
@pytest.mark.parametrize("hiding", ["microbatch.py", "microbatch/__init__.py"])
def test_a_module_that_hides_microbatch(app: str, hiding: str) -> None:
    write("app_one.py", ONE)
    write("microbatch.py", ONE)
    path = write(hiding, ONE).resolve()
    Path("microbatch.py").unlink() if hiding != "microbatch.py" else None
    if app.startswith("microbatch") and hiding != "microbatch.py":
        assert refused(app) == "there is no file 'microbatch.py'"
    else:
        assert refused(app) == f"{path} hides the package microbatch from the programs there; rename it"
    assert importlib.import_module("microbatch.producer").Config is not None


def test_a_neighbour_does_not_come_before_a_module_of_python(tmp_path: Path) -> None:
    write("this.py", "raise RuntimeError('the neighbour')\n")
    write("app_beside.py", ONE)
    load_config("app_beside.py")
    spec = importlib.util.find_spec("this")
    assert spec is not None
    assert spec.origin != str(tmp_path / "this.py")


def test_a_neighbour_comes_before_an_installed_package() -> None:
    write("mypy/__init__.py", "")
    write("app_beside.py", ONE + "import mypy\nassert mypy.__file__.startswith(__file__[:-13])\n")
    load_config("app_beside.py")


@pytest.mark.parametrize(
    ("files", "app", "told"),
    [
        (
            {"app_pkg/__init__.py": "", "app_pkg/app.py": "from . import other\n"},
            "app_pkg/app.py",
            "name it as a part of its package: app_pkg.app:config",
        ),
        (
            {"app_pkg/app.py": "from .other import x\n"},
            "app_pkg/app.py:mine",
            "name it as a part of its package: app_pkg.app:mine",
        ),
        (
            {
                "deep/__init__.py": "",
                "deep/app_pkg/__init__.py": "",
                "deep/app_pkg/app.py": "from .. import x\n",
            },
            "deep/app_pkg/app.py",
            "name it as a part of its package: deep.app_pkg.app:config",
        ),
        (
            {"app_alone.py": "from . import other\n"},
            "app_alone:config",
            "name it as a part of its package: {folder}.app_alone:config, in the folder {above}",
        ),
        (
            {"src/app_pkg/app.py": ONE},
            "app_pkg.app:config",
            "'app_pkg' is in {here}/src: start the command there, or set PYTHONPATH={here}/src",
        ),
        (
            {"src/app_pkg/app.py": "import app_pkg.other\n", "src/app_pkg/other.py": ""},
            "src/app_pkg/app.py",
            "'app_pkg' is in {here}/src: start the command there, or set PYTHONPATH={here}/src",
        ),
        (
            {"src/app_pkg/app.py": "import app_lib\n", "src/app_lib.py": ""},
            "src/app_pkg/app.py",
            "'app_lib' is in {here}/src: start the command there, or set PYTHONPATH={here}/src",
        ),
        (
            {"app_shadow.py": "from calendar import holidays\n", "calendar.py": "holidays = 1\n"},
            "app_shadow.py",
            "'calendar' in {here} has the name of Python's own module; rename it",
        ),
        (
            {"app_shadow.py": "import calendar\ncalendar.holidays\n", "calendar.py": "holidays = 1\n"},
            "app_shadow.py",
            "'calendar' in {here} has the name of Python's own module; rename it",
        ),
        ({"app_dot.py": ONE}, "app_dot.config:", "did you mean app_dot:config?"),
        ({"folder/app_one.py": ONE}, "folder/app_one:config", "did you mean 'folder/app_one.py'?"),
    ],
)
def test_the_error_gives_a_hint(tmp_path: Path, files: dict[str, str], app: str, told: str) -> None:
    for name, text in files.items():
        write(name, text)
    names = {"here": tmp_path, "folder": tmp_path.name, "above": tmp_path.parent}
    assert refused(app).endswith(f"; {told.format(**names)}")


@pytest.mark.parametrize("setting", ["dictConfig", "fileConfig", "disabled"])
def test_an_app_that_sets_up_its_logging_does_not_silence_ours(setting: str) -> None:
    write(
        "logging.ini",
        "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\nhandlers=\n",
    )
    how = {
        "dictConfig": "logging.config.dictConfig({'version': 1})",
        "fileConfig": "logging.config.fileConfig('logging.ini')",
        "disabled": "logging.getLogger('rq.worker').disabled = True",
    }
    names = ["microbatch.worker.pool", "microbatch.scheduler.service", "rq.worker"]
    loggers = [logging.getLogger(name) for name in names]
    others = logging.getLogger("somebody.else")
    handlers = list(logging.root.handlers)
    everybody = [logger for logger in logging.root.manager.loggerDict.values() if hasattr(logger, "disabled")]
    before = [logger.disabled for logger in everybody]
    write("app_logs.py", ONE + f"import logging.config\n{how[setting]}\n")
    try:
        load_config("app_logs.py")
    finally:
        found = [logger.disabled for logger in [*loggers, others]]
        logging.root.handlers[:] = handlers
        for logger, disabled in zip(everybody, before, strict=True):
            logger.disabled = disabled
    # The loggers of the app's own setup are not our concern.
    assert found == [False, False, False, setting != "disabled"]


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


@contextmanager
def another_user() -> Iterator[None]:
    """Run as a user other than root, because root can read every file."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(10001)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize("hidden", [".", "shop"])
def test_a_file_that_this_user_cannot_read_is_reported_as_such(hidden: str) -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").write_text(ONE)
    unreadable = folder / hidden
    mode = unreadable.stat().st_mode
    unreadable.chmod(0)
    here = Path.cwd()
    os.chdir(folder)
    with another_user():
        reason = refused("shop:config")
    os.chdir(here)
    unreadable.chmod(mode)
    shutil.rmtree(folder)
    assert f" can't read {unreadable}: `chmod -R a+rX {unreadable}` lets everybody do it" in reason
