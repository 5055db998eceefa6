"""The source layout: one namespace over five source roots, and a wheel with nothing else."""

from __future__ import annotations

import re
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import hatchling.build
import pytest

ROOT = Path(__file__).parents[2]
ROOTS = ("broker", "producer", "scheduler", "worker", "ops")


def test_no_root_closes_the_namespace() -> None:
    """One stray file would hide the other roots."""
    assert list(ROOT.glob("*/microbatch/__init__.py")) == []
    assert sorted(path.parent.name for path in ROOT.glob("*/microbatch")) == sorted(ROOTS)


@pytest.mark.parametrize("root", ROOTS)
def test_each_root_holds_its_one_package(root: str) -> None:
    found = [path.name for path in (ROOT / root / "microbatch").iterdir() if path.name != "__pycache__"]
    assert found == [root]
    assert (ROOT / root / "microbatch" / root / "__init__.py").is_file()
    assert (ROOT / root / "microbatch" / root / "py.typed").read_bytes() == b""
    assert import_module(f"microbatch.{root}").__file__ is not None


def test_every_list_of_roots_names_all_of_them() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tool = settings["tool"]
    build = tool["hatch"]["build"]
    assert build["dev-mode-dirs"] == list(ROOTS)
    assert build["targets"]["wheel"]["packages"] == [f"{root}/microbatch" for root in ROOTS]
    assert tool["mypy"]["mypy_path"] == [f"$MYPY_CONFIG_FILE_DIR/{root}" for root in ROOTS]
    assert set(ROOTS) < set(tool["mypy"]["files"])
    assert set(ROOTS) < set(tool["ruff"]["src"])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        name = hatchling.build.build_wheel(str(folder))
    return zipfile.ZipFile(folder / name)


def test_the_wheel_holds_microbatch_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    strays = [
        name
        for name in names
        if not re.match(rf"microbatch/({'|'.join(ROOTS)})/|microbatch-[^/]+\.dist-info/", name)
    ]
    assert strays == []
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_wheel_holds_every_module_script_and_marker(wheel: zipfile.ZipFile) -> None:
    wanted = {
        str(path.relative_to(ROOT / root))
        for root in ROOTS
        for pattern in ("**/*.py", "**/*.lua", "**/py.typed")
        for path in (ROOT / root).glob(pattern)
    }
    assert {name for name in wheel.namelist() if name.endswith((".py", ".lua", "py.typed"))} == wanted
    assert "microbatch/broker/lua/cut.lua" in wanted


def test_the_wheel_brings_the_command(wheel: zipfile.ZipFile) -> None:
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "microbatch = microbatch.ops.cli:main" in wheel.read(entry_points).decode()
