# The image of workers and of the operator's commands: `smr-repository` and `smr-pki`, and nothing that builds or serves others.
# Built from the locked dependencies alone, each file checked against its hash. Nothing secret is in it: keys, passwords and
# addresses come as mounted files when it runs. It runs as a user without rights, on a root file system that can be read-only.
#
#   docker build -t smr-repository .
#
# PYTHON_IMAGE is any image with CPython 3.11 or newer and its venv module; python:X.Y-slim is one.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements/build.lock requirements/runtime.lock requirements/
# Two environments: one with the tools of the build, which stays behind, and the one that runs, which has no pip.
RUN python3 -m venv tools \
 && tools/bin/python -m pip install --only-binary :all: --require-hashes -r requirements/build.lock \
 && python3 -m venv --without-pip /opt/smr \
 && tools/bin/python -m pip --python /opt/smr/bin/python install --only-binary :all: --require-hashes -r requirements/runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY broker_config broker_config
COPY client client
COPY crypto_core crypto_core
COPY evidence_package evidence_package
COPY pki pki
COPY repository_worker repository_worker
RUN tools/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && tools/bin/python -m pip --python /opt/smr/bin/python install --no-deps dist/*.whl

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/smr /opt/smr
# Volumes that are mounted here for the first time take these folders' owner and mode.
RUN mkdir -p /var/lib/smr/operator /var/lib/smr/trust \
 && chown -R 10001:10001 /var/lib/smr && chmod -R go= /var/lib/smr
ENV PATH=/opt/smr/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    SMR_REPOSITORY_HOME=/var/lib/smr \
    SMR_TRUST_STORE=/var/lib/smr/trust \
    SMR_REPOSITORY_METRICS_PORT=9464
USER 10001:10001
WORKDIR /var/lib/smr
HEALTHCHECK --interval=5s --timeout=20s --start-period=180s --retries=4 \
    CMD ["python", "-I", "-c", "from urllib.request import *; build_opener(ProxyHandler({})).open('http://127.0.0.1:9464/ready', timeout=10)"]
CMD ["smr-repository", "run"]
