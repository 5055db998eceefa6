"""URLs of servers: an error says what is wrong with one, without its password."""

from __future__ import annotations

from pathlib import Path

import pytest

from microbatch.broker.app.config import Config
from microbatch.broker.errors import ConfigError
from microbatch.broker.transport.connection import open_client
from tests.certificates import Certificates

BRACKETS = "write '[' and ']' in a user name or password as %5B and %5D"
QUOTED = "it begins or ends with a quotation mark; leave the marks out"
SPACED = "it has a space or a line's end before, in or after it; leave that out"
NO_FILE = "there is no file '/nowhere'"
FOR_TLS = "it is for TLS, with rediss:// or rediss+sentinel://"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:sec[ret@host:6379/0", BRACKETS),
        ("redis://me:sec]ret@host", BRACKETS),
        ("redis://:s[ecre]t@host/0", BRACKETS),
        ("rediss://:sec[ret@[::1]:6379", BRACKETS),
        ("redis+sentinel://:sec[ret@one:1,two:2/letters", BRACKETS),
        ('"redis://:secret@host"', QUOTED),
        ("'redis://:secret@host'", QUOTED),
        ("redis://:secret@host'", QUOTED),
        (" redis://:secret@host", SPACED),
        ("redis://:secret@host/0 ", SPACED),
        ("redis://:secret@host\n", SPACED),
        ("redis://:sec\nret@host", SPACED),
        ("REDIS://:secret@host", "write redis:// in small letters, not REDIS://"),
        ("Rediss://:secret@host", "write rediss:// in small letters, not Rediss://"),
        ("redis+Sentinel://host/letters", "write redis+sentinel:// in small letters, not redis+Sentinel://"),
        ("redis:host", "'://' is missing after 'redis'; use redis://host:port/db, rediss://…"),
        ("redis:/host/0", "'://' is missing after 'redis'; use redis://host:port/db, rediss://…"),
        ("rediss:host:6379", "'://' is missing after 'rediss'; use redis://host:port/db, rediss://…"),
        ("host:6379", "unknown scheme 'host://'; use redis://host:port/db, rediss://…"),
        ("redis+sentinel://host/letters/x", "the database is a number, as in …/service/0; use redis://"),
        ("rediss://host?ssl_cert_reqs=maybe", "ssl_cert_reqs: 'maybe' is not allowed; use one of none, opt"),
        ("rediss://host?ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs: 'CERT_NONE' is not allowed; use one of no"),
        ("rediss+sentinel://host/letters?ssl_cert_reqs=x", "ssl_cert_reqs: 'x' is not allowed; use one of "),
        ("rediss://host?ssl_ca_certs=/nowhere", f"ssl_ca_certs: {NO_FILE}"),
        ("rediss+sentinel://host/letters?ssl_ca_certs=/nowhere", f"ssl_ca_certs: {NO_FILE}"),
        ("rediss://host?ssl_certfile=/nowhere", f"ssl_certfile: {NO_FILE}"),
        ("rediss://host?ssl_keyfile=/nowhere", f"ssl_keyfile: {NO_FILE}"),
        ("rediss://host?ssl_ca_path=/nowhere", "ssl_ca_path: there is no folder '/nowhere'"),
        ("rediss://host?ssl_ca_certs=empty", "ssl_ca_certs: 'empty' has no certificates that can be read"),
        ("rediss://host?ssl_certfile=empty", "ssl_certfile: 'empty' has no certificate with its key"),
        ("rediss://host?ssl_keyfile=empty", "ssl_keyfile: it needs ssl_certfile too"),
        ("rediss://host?ssl_check_hostname=off", "ssl_check_hostname: 'off' is not allowed; use true or fa"),
        ("rediss://host?ssl_min_version=TLSv1.2", "ssl_min_version: 'TLSv1.2' is not allowed; use 771 for"),
        ("redis://host?ssl_cert_reqs=none", f"ssl_cert_reqs: {FOR_TLS}"),
        ("unix:///socket?ssl_ca_certs=/nowhere", f"ssl_ca_certs: {FOR_TLS}"),
        ("redis+sentinel://host/letters?ssl_ca_certs=/nowhere", f"ssl_ca_certs: {FOR_TLS}"),
        ("redis://host?colour=1", "there is no option 'colour'"),
        (
            "redis://host?max_conections=1",
            "there is no option 'max_conections'; did you mean 'max_connections'?",
        ),
        (
            "rediss://host?ssl_cert_req=none",
            "there is no option 'ssl_cert_req'; did you mean 'ssl_cert_reqs'?",
        ),
        ("redis+sentinel://host/letters?colour=1", "there is no option 'colour'"),
        ("redis://host?max_connections=many", "max_connections: 'many' is not a number"),
        (
            "redis://host?socket_keepalive=maybe",
            "socket_keepalive: 'maybe' is not allowed; use true or false",
        ),
    ],
)
def test_what_is_wrong_with_a_url_is_told(tmp_path: Path, url: str, told: str) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigError) as caught:
        open_client(Config(name="letters", redis_url=url).required_url())
    said = str(caught.value)
    assert said.startswith(f"redis_url: {told}")
    assert "\n" not in said
    assert "secret" not in said
    assert "ret@" not in said


@pytest.mark.parametrize(
    "url",
    [
        "redis://:p%5Bw%5D@host:6379/0",
        "redis://[::1]:6379/0",
        "redis://me:secret@[::1]",
        "unix:///run/a folder/valkey.sock",
        "redis://host?max_connections=7&socket_keepalive=yes",
        "rediss://host?ssl_cert_reqs=none&ssl_check_hostname=false",
        "rediss://host?ssl_min_version=772",
    ],
)
def test_a_url_that_is_right(url: str) -> None:
    open_client(Config(name="letters", redis_url=url).required_url()).close()


def test_certificates_that_can_be_read(certificates: Certificates) -> None:
    url = f"rediss://host?ssl_ca_certs={certificates.authority}"
    url += f"&ssl_certfile={certificates.certificate}&ssl_keyfile={certificates.key}"
    open_client(url).close()
