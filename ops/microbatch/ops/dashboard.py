"""rq-dashboard on a batcher's server. The only module that uses rq-dashboard's internals.

This makes rq-dashboard read jobs with RQ's JSON serializer everywhere. Its own option ``-j`` does so only for
the queues: the pages of a job and of the workers still use pickle, and the page of the workers fails on a
busy worker's job, whose call it shows. Besides, nothing that is read from the server may be unpickled.

It also gets our connection instead of a URL. So it reaches every server that the commands reach, with
Sentinel too, and shows the address without user and password.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection
from functools import partial
from http.server import HTTPServer
from typing import Any

import flask
from rq import Worker
from rq.job import Job, requeue_job
from rq.serializers import JSONSerializer
from rq_dashboard import web  # type: ignore[import-untyped]
from werkzeug.serving import BaseWSGIServer, make_server

from microbatch.broker.broker import Broker
from microbatch.broker.errors import MicrobatchError
from microbatch.ops.same_site import refuse_other_sites


class DashboardError(MicrobatchError):
    """The dashboard can't be started."""


class _JSONWorker(Worker):
    @classmethod
    def all(cls, *args: Any, **options: Any) -> list[Any]:
        return super().all(*args, **{"serializer": JSONSerializer, **options})


class _JSONJob(Job):
    @classmethod
    def fetch(cls, *args: Any, **options: Any) -> Job:
        return super().fetch(*args, **{"serializer": JSONSerializer, **options})


class Dashboard:
    """rq-dashboard, served by this process.

    Args:
        broker: the batcher's verbs, whose server is shown.
        host: the address to listen on.
        port: the port to listen on; 0 for a free one.
        names: further host names that browsers may use for it, such as a proxy's.

    Raises:
        DashboardError: it can't listen on this address and port.
    """

    def __init__(self, broker: Broker, host: str, port: int, names: Collection[str] = ()) -> None:
        self._name = broker.config.name
        self._socket = _listen(host, port)
        self._host, self._port = host, self._socket.getsockname()[1]
        self._http: BaseWSGIServer = make_server(
            host, self._port, _app(broker, (host, *names)), threaded=True, fd=self._socket.fileno()
        )

    @property
    def url(self) -> str:
        """The address for a browser."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/"

    def serve(self) -> None:
        """Serve until the process is ended or interrupted."""
        logging.getLogger("werkzeug").setLevel("WARNING")  # otherwise it logs a line for each request
        try:
            HTTPServer.serve_forever(self._http)  # werkzeug's own hides a KeyboardInterrupt
        finally:
            self._http.server_close()


def _app(broker: Broker, names: Collection[str]) -> flask.Flask:
    web.config.serializer = JSONSerializer
    web.Job, web.Worker = _JSONJob, _JSONWorker
    web.requeue_job = partial(requeue_job, serializer=JSONSerializer)
    web.from_url = lambda *_, **__: (None, broker.server.client)
    app = flask.Flask(web.__name__)  # Flask finds the style sheets and scripts by this name
    app.config["RQ_DASHBOARD_REDIS_URL"] = (broker.server.where,)  # shown on every page
    refuse_other_sites(app, names)
    web.setup_rq_connection(app)
    app.register_blueprint(web.blueprint)
    return app


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise DashboardError(f"the dashboard can't listen on {host} port {port}: {error}") from error
