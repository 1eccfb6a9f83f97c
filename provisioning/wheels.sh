#!/bin/sh
# Build the wheels that an installation needs, into the folder WHEELS: those of requirements/booth.lock, those of base.lock for root's
# part of updates, and setuptools, which builds the agent's own. They are for this machine's architecture and version of Python.
#     make wheels WHEELS=DIR
set -eu

wheels=${WHEELS:?name the folder: make wheels WHEELS=DIR}
case $wheels in /*) ;; *) wheels=$PWD/$wheels ;; esac
python=${PYTHON:-/usr/bin/python3}
cd "$(dirname "$0")/.."

sh provisioning/system-packages python3 python3-venv python3-dev gcc linux-libc-dev pkg-config libsystemd-dev libsane-dev
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

"$python" -m venv "$work/venv"
pip() { "$work/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
pip install --require-hashes -r requirements/build.lock
mkdir -p "$wheels"
pip wheel --require-hashes --no-deps --wheel-dir "$wheels" -r requirements/build.lock
pip wheel --require-hashes --no-deps --no-build-isolation --wheel-dir "$wheels" -r requirements/booth.lock
pip wheel --require-hashes --no-deps --wheel-dir "$wheels" -r requirements/base.lock
