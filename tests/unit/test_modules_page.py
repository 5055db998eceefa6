from __future__ import annotations

from docs import modules


def test_the_page_of_modules_is_what_their_docstrings_say() -> None:
    assert modules.PAGE.read_text("utf-8") == modules.page(), "run `python docs/modules.py`"


def test_every_module_says_what_it_is() -> None:
    paths = [path for root in modules.ROOTS for path in (modules.ROOT / root).rglob("*.py")]
    assert len(paths) > 100
    assert [str(path) for path in paths if not modules.sentence(path).endswith((".", "?"))] == []
