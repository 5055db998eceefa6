from __future__ import annotations

import re
from pathlib import Path

LOG = Path(__file__).parents[2] / "examples" / "data" / "access.log"
COMBINED = re.compile(rb'\S+ \S+ \S+ \[[^]]+\] "[^"]*" \d{3} \d+ "[^"]*" "[^"]*"')
DOCUMENTATION = re.compile(rb"(192\.0\.2|198\.51\.100|203\.0\.113)\.\d+ |2001:db8:[0-9a-f:]+ ")


def test_the_sample_is_a_log_with_two_lines_that_cannot_be_parsed() -> None:
    lines = LOG.read_bytes().splitlines()
    cut_off, junk = sorted(line for line in lines if not COMBINED.fullmatch(line))[::-1]
    assert 4_500 < len(lines) < 5_500
    assert cut_off.startswith(b"198.51.100.23 - - [")
    assert junk.startswith(b"\x16\x03\x01")


def test_the_sample_names_nobodys_address() -> None:
    lines = [line for line in LOG.read_bytes().splitlines() if COMBINED.fullmatch(line)]
    assert [line for line in lines if not DOCUMENTATION.match(line)] == []
