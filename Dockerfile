# One image for every role: `docker run microbatch scheduler letters:config`, `... worker letters:config`, and so on.
# The application is mounted or copied into /app, which is on the import path.

FROM python:3.12-slim AS build
WORKDIR /src
# The dependencies first, so that a change of the code doesn't install them again.
COPY requirements.lock ./
RUN python -m venv /opt/microbatch && \
    /opt/microbatch/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY . ./
RUN /opt/microbatch/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . && \
    /opt/microbatch/bin/pip uninstall --yes --disable-pip-version-check pip

FROM python:3.12-slim
COPY --from=build /opt/microbatch /opt/microbatch
ENV PATH=/opt/microbatch/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --create-home microbatch
WORKDIR /app
# As a number: orchestrators that refuse root want to see that it is another.
USER 10001
ENTRYPOINT ["microbatch"]
