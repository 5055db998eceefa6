"""Refuses requests to the dashboard that come from other sites.

A page of any site can have a browser send a request to 127.0.0.1, or let its own name mean that address. The
browser would requeue or delete jobs for it, and nobody would know.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

import flask

_LOCAL = ("localhost", "localhost.localdomain")
_READING = {"GET", "HEAD", "OPTIONS"}
_OWN = ("same-origin", "none")  # none: a person has typed the address


def refuse_other_sites(app: flask.Flask, names: Collection[str]) -> None:
    """Have the app refuse what comes from other sites, or by another name than these and this machine's."""
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
            flask.abort(405)  # rq-dashboard would do it, and a link of any page asks so
        if not _is_own(flask.request):
            flask.abort(403, "A page of another site asked for this.")


def _is_own(request: flask.Request) -> bool:
    """Whether a request is a page's of ours, or no browser's, which all say where a page is from."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        return False
    return request.headers.get("Sec-Fetch-Site", "none") in _OWN


def _is_address(host: str) -> bool:
    """No site can make an address mean another."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
