# One image for the API, the scheduler and the worker; the command decides which it is:
#
#   docker build --tag async-jobs .
#   docker run --rm async-jobs scheduler --help
#
# An application adds its handlers to it. The stage `examples` shows how; see docs/deploy-ecs.md.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src

# Before the source, so that a change of code installs nothing again. All of it comes as wheels
# with known hashes; the slim image has no compiler, and a source distribution would fail here.
COPY requirements/build.lock requirements/deploy.lock requirements/
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/build.lock
RUN python -m venv --without-pip /opt/async_jobs \
    && pip --python /opt/async_jobs install --no-compile --require-hashes --only-binary :all: \
        -r requirements/deploy.lock

COPY pyproject.toml README.md LICENSE ./
COPY async_jobs async_jobs
# Bytecode is checked by nothing at run time: the files below it never change, and the process may
# not write there.
RUN /opt/build/bin/hatchling build --target wheel --directory /src/dist \
    && pip --python /opt/async_jobs install --no-compile --no-index --no-deps dist/*.whl \
    && /opt/async_jobs/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        /opt/async_jobs/lib


FROM python:3.13-slim AS base
LABEL org.opencontainers.image.title="async_jobs" \
      org.opencontainers.image.description="API, scheduler and worker of async_jobs" \
      org.opencontainers.image.licenses="MIT"

# The number is fixed, because file systems and `runAsUser` know numbers only. No home directory,
# no shell, nothing that it owns.
RUN groupadd --gid 10001 async_jobs \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin async_jobs
COPY --from=build /opt/async_jobs /opt/async_jobs
ENV PATH=/opt/async_jobs/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HEALTH_PORT=8080

# Where modules named by --handlers or ASYNC_JOBS_HANDLERS_MODULE are found.
WORKDIR /app
USER 10001:10001
EXPOSE 8080

# Alive, not ready: a process that waits for its database must not be replaced for that, and a
# worker that cannot receive ends by itself. HEALTH_PORT is the --port of the API and the
# --health-port of the others. No curl, because the image has none.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen('http://127.0.0.1:%s/health/live' % os.environ['HEALTH_PORT'], timeout=4)"]

# In exec form, so that the process is number 1 and SIGTERM reaches it: each program handles it.
# There is no init, because nothing here starts processes that somebody would have to reap; run
# with `--init` (compose: `init: true`, ECS: `initProcessEnabled`) if your handlers do.
STOPSIGNAL SIGTERM
ENTRYPOINT ["async-jobs"]
CMD ["--help"]


FROM base AS examples
COPY examples /app/examples


# The last stage is what `docker build` makes without --target.
FROM base AS runtime
