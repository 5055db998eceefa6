"""A server's URL: its parts, and what is wrong with it, in one line.

No message quotes anything that may be a password.
"""

from __future__ import annotations

import difflib
import re
import ssl
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, parse_qsl, urlsplit

from redis.connection import URL_QUERY_ARGUMENT_PARSERS

from microbatch.broker.errors import ConfigError

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
URL_HELP = (
    "use redis://host:port/db, rediss://…, unix:///path or redis+sentinel://host:port,host:port/service/db"
)
_CERT_REQS = ("none", "optional", "required")
_TLS_VERSIONS = {"771": "TLS 1.2", "772": "TLS 1.3"}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_BOOLEANS = ("true", "false", "yes", "no", "1", "0", "t", "f", "y", "n")


def split_url(url: str) -> SplitResult:
    """The parts of a URL. Raises ConfigError, without the password, if it is malformed or of unknown kind."""
    check_spelling(url)
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may quote the password
        raise ConfigError(f"redis_url: it can't be read as a URL; {URL_HELP}") from None
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"redis_url: unknown scheme {parts.scheme + '://' if parts.scheme else ''!r}; {URL_HELP}"
        )
    rest = url.partition("://")[2].removeprefix(parts.netloc)
    if (parts.netloc and not parts.netloc.endswith("@")) if parts.scheme == "unix" else "@" in rest:
        # The text before the "@" may be part of a password, and would be read as a host or a port.
        raise ConfigError(
            "redis_url: the host is not where it should be; write '/', '?', '#' and '@' in a user name or "
            f"password as %2F, %3F, %23 and %40; {URL_HELP}"
        )
    if parts.scheme in ("redis", "rediss"):
        port_of(parts.netloc.rpartition("@")[2])
        if (db := parts.path.strip("/")) and not db.isdecimal():
            raise ConfigError(f"redis_url: the database is a number, as in redis://host/0; {URL_HELP}")
    return parts


def port_of(host: str) -> int | None:
    """The port of ``host[:port]``, or None. Raises ConfigError if it is not a port."""
    try:
        return urlsplit(f"//{host}").port
    except ValueError:
        raise ConfigError(f"redis_url: what follows the host is not a port; {URL_HELP}") from None


def safe_url(url: str) -> str:
    """The URL as it may be shown: without user, password and options."""
    parts = split_url(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def check_spelling(url: str) -> None:
    """Raises ConfigError if the URL has something that shells, files and people put into one by mistake."""
    if url[:1] in ("'", '"') or url[-1:] in ("'", '"'):
        raise ConfigError("redis_url: it begins or ends with a quotation mark; leave the marks out")
    if url != url.strip() or re.search(r"[\t\r\n]", url):
        raise ConfigError("redis_url: it has a space or a line's end before, in or after it; leave that out")
    scheme, found, rest = url.partition("://")
    if not found and scheme.partition(":")[0].lower() in SCHEMES:
        raise ConfigError(f"redis_url: '://' is missing after {scheme.partition(':')[0]!r}; {URL_HELP}")
    if scheme != scheme.lower() and scheme.lower() in SCHEMES:
        raise ConfigError(f"redis_url: write {scheme.lower()}:// in small letters, not {scheme}://")
    login, found, _ = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")
    if found and re.search(r"[\[\]]", login):
        raise ConfigError("redis_url: write '[' and ']' in a user name or password as %5B and %5D")


def check_options(parts: SplitResult) -> None:
    """Raises ConfigError if one of the URL's options has a wrong value, or does not fit its scheme."""
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in options.items():
        if name.startswith("ssl_") and not parts.scheme.startswith("rediss"):
            raise ConfigError(f"redis_url: {name}: it is for TLS, with rediss:// or rediss+sentinel://")
        if wrong := _wrong_value(name, value):
            raise ConfigError(f"redis_url: {name}: {wrong}")
    if any(name.startswith("ssl_") for name in options):
        _check_certificates(options)


def unknown_option(error: TypeError) -> str:
    """What redis-py's error says about an option's name; empty if it is another error."""
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if found is None:
        return ""
    close = difflib.get_close_matches(found[1], [*URL_QUERY_ARGUMENT_PARSERS, *_FILES, "ssl_cert_reqs"], n=1)
    return f"there is no option {found[1]!r}{f'; did you mean {close[0]!r}?' if close else ''}"


def _wrong_value(name: str, value: str) -> str:
    """What is wrong with an option's value; empty if nothing is."""
    if name == "ssl_cert_reqs" and value not in _CERT_REQS:
        return f"{value!r} is not allowed; use one of {', '.join(_CERT_REQS)}"
    if name == "ssl_min_version" and value not in _TLS_VERSIONS:
        allowed = ", ".join(f"{number} for {version}" for number, version in _TLS_VERSIONS.items())
        return f"{value!r} is not allowed; use {allowed}"
    if (parse := URL_QUERY_ARGUMENT_PARSERS.get(name)) is None:
        return ""
    if parse in (int, float):
        return "" if _is_number(value, parse) else f"{value!r} is not a number"
    if getattr(parse, "__name__", "") == "to_bool" and value.lower() not in _BOOLEANS:
        return f"{value!r} is not allowed; use true or false"
    return ""


def _is_number(value: str, parse: type[int] | type[float]) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return True


def _check_certificates(options: dict[str, str]) -> None:
    """Raises ConfigError if a file for TLS does not exist, or has no certificate or key."""
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            raise ConfigError(f"redis_url: {name}: there is no file {options[name]!r}")
    if not Path(options.get("ssl_ca_path", "/")).is_dir():
        raise ConfigError(f"redis_url: ssl_ca_path: there is no folder {options['ssl_ca_path']!r}")
    if options.get("ssl_keyfile") and not options.get("ssl_certfile"):
        raise ConfigError("redis_url: ssl_keyfile: it needs ssl_certfile too")
    _load_certificates(options)


def _load_certificates(options: dict[str, str]) -> None:
    """Raises ConfigError if a file has no certificate or key."""
    context = ssl.create_default_context()
    try:
        if "ssl_ca_certs" in options:
            context.load_verify_locations(options["ssl_ca_certs"])
    except OSError as error:  # an SSLError is one
        what = f"{options['ssl_ca_certs']!r} has no certificates that can be read"
        raise ConfigError(f"redis_url: ssl_ca_certs: {what} ({error.strerror})") from None
    certificate = options.get("ssl_certfile")
    try:
        if certificate is not None:
            # With a password, so that OpenSSL does not ask for one on a terminal.
            context.load_cert_chain(certificate, options.get("ssl_keyfile"), options.get("ssl_password", ""))
    except OSError as error:
        what = f"{certificate!r} has no certificate with its key (ssl_keyfile) that can be read"
        raise ConfigError(f"redis_url: ssl_certfile: {what} ({error.strerror})") from None


def refuse_own(parts: SplitResult, names: Iterable[str]) -> None:
    """Raises ConfigError if the URL sets one of these options, which Microbatch overrides."""
    given = parse_qs(parts.query)
    if wrong := next((name for name in names if name in given), None):
        raise ConfigError(f"redis_url: the option {wrong} is Microbatch's own to set; leave it out")
