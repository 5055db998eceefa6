from __future__ import annotations

from docs import settings
from microbatch.producer import Config


def test_the_table_in_the_documents_is_what_config_says() -> None:
    page = settings.PAGE.read_text("utf-8")
    assert page == settings.with_table(page), "run `python docs/settings.py`"


def test_every_setting_has_a_row_and_says_what_it_means() -> None:
    rows = [row.strip("|").split("|") for row in settings.table().splitlines()[2:]]
    assert [row[0].strip(" `") for row in rows] == list(Config.model_fields)
    assert [row for row in rows if not row[4].strip()] == []
