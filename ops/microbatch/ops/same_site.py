"""Protects the dashboard from pages of other sites.

A page of any site can make a browser send a request to 127.0.0.1, and a site can make its own name resolve to
that address. The browser would then requeue or delete jobs without anybody noticing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

import flask

_LOCAL = ("localhost", "localhost.localdomain")
_READING = {"GET", "HEAD", "OPTIONS"}
_OWN = ("same-origin", "none")  # none: a person typed the address


def refuse_other_sites(app: flask.Flask, names: Collection[str]) -> None:
    """Make the app refuse changes that other sites request, and names other than these and this machine's."""
    known = {name.lower() for name in (*_LOCAL, socket.gethostname(), socket.getfqdn(), *names)}

    @app.before_request
    def refuse() -> None:
        host = urlsplit(f"//{flask.request.host}").hostname or ""
        if host not in known and not _is_address(host):
            flask.abort(
                403, f"The dashboard does not know the name {host!r}: start it with --allow-host {host}"
            )
        rule = flask.request.url_rule
        if rule is None or not set(rule.methods or ()) - _READING:
            return
        if flask.request.method in _READING:
            flask.abort(405)  # rq-dashboard accepts GET here, which a link on any page can send
        if not _is_own(flask.request):
            flask.abort(403, "A page of another site asked for this.")


def _is_own(request: flask.Request) -> bool:
    """Whether a request comes from our own pages, or not from a browser: browsers name a page's origin."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        return False
    return request.headers.get("Sec-Fetch-Site", "none") in _OWN


def _is_address(host: str) -> bool:
    """Whether the host is an IP address, which no site can make resolve to another one."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
