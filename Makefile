# Every target is sufficient by itself on a fresh Debian 12 machine.

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARGS   ?=
PYTHON ?= python3
# What a release is for, where it goes, and where what other machines need is kept.
ARCH    := amd64 arm64
BUNDLES ?= build/bundles
CROSS   ?= build/cross

# What `make run` and everything else needs from the system; apt is asked only for what is missing.
BUILD_PACKAGES := python3 python3-venv python3-dev gcc linux-libc-dev pkg-config libsystemd-dev libsane-dev
BOOTH_PACKAGES := mosquitto mosquitto-clients cups-daemon cups-client libsane1
TEST_PACKAGES  := alsa-utils chromium cups-ipp-utils dnsmasq-base e2fsprogs faketime iproute2 nftables openssl sane-utils strace systemd systemd-journal-remote udev xvfb
# What builds a release for the other architecture, and tries it out.
CROSS_PACKAGES := $(if $(filter x86_64,$(shell uname -m)),gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static)
VIRTUAL_PACKAGES := e2fsprogs linux-source-6.1 mmdebstrap qemu-system-x86 util-linux
CHECK_PACKAGES := systemd udev shellcheck

.PHONY: help setup run test test-system test-updates test-healing check fuzz bench install uninstall wheels bundle lock schema runbook reference clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## everything into .venv/

$(STAMP): requirements/build.lock requirements/dev.lock setup.cfg pyproject.toml
	@sh provisioning/system-packages $(BUILD_PACKAGES) $(BOOTH_PACKAGES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-build-isolation -r requirements/dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@# Compiled here even where PYTHONDONTWRITEBYTECODE is set: compiling at each start costs a second and 2 MiB.
	$(BIN)/python -m compileall -q agent
	@touch $@

run: setup ## a booth with its broker, live on screen; ARGS="--help" for more
	@$(BIN)/booth-agent demo $(ARGS)

test: setup ## the whole suite, against real peers on loopback
	@sh provisioning/system-packages $(TEST_PACKAGES) $(CROSS_PACKAGES)
	@# Most tests wait more than they work: four at a time, each file in one process.
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

test-system: setup ## a booth in a virtual machine: LEDs, GPIO, a camera, USB, the unit in its sandbox, power cuts
	@sh provisioning/system-packages $(VIRTUAL_PACKAGES)
	BOOTH_SYSTEM_TESTS=1 $(BIN)/pytest tests/virtual_booth --ignore=tests/virtual_booth/hurried -m "not long" $(ARGS)

test-updates: setup ## every end that an update can have, in a virtual booth: versions that crash, hang, hear nothing; power cuts
	@sh provisioning/system-packages $(VIRTUAL_PACKAGES)
	BOOTH_SYSTEM_TESTS=1 $(BIN)/pytest tests/virtual_booth/test_releases.py $(ARGS)

test-healing: setup ## each fault that heals once, and a power cut in each rung, in a virtual booth whose idle time is skipped
	@sh provisioning/system-packages $(VIRTUAL_PACKAGES)
	BOOTH_SYSTEM_TESTS=1 $(BIN)/pytest tests/virtual_booth/hurried $(ARGS)

check: setup ## types, lint, import rules, units, generated files
	@sh provisioning/system-packages $(CHECK_PACKAGES)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	shellcheck --shell=sh provisioning/system-packages provisioning/installed-files provisioning/*.sh systemd/check .ci/run \
	    tests/virtual_booth/guest/build.sh
	sh systemd/check
	$(BIN)/python -m agent.contract.schema --check docs/contract.schema.json
	$(BIN)/python docs/runbook/index.py --check
	$(BIN)/python docs/reference.py --check
	$(BIN)/python docs/schemas.py --check
	$(BIN)/python docs/verbs.py --check

fuzz: setup ## what reads signed documents, by mutations that coverage guides, for a minute; ARGS="--seconds 600 --merge" for more
	test -x $(VENV)/fuzz/bin/python || $(PYTHON) -m venv $(VENV)/fuzz
	@$(VENV)/fuzz/bin/pip install --quiet --disable-pip-version-check --require-hashes --only-binary atheris \
	    -r requirements/fuzz.lock || { echo "make fuzz: nothing was fuzzed. Where atheris has no wheel for $$($(VENV)/fuzz/bin/python -V):" \
	    "rm -r $(VENV)/fuzz && make fuzz PYTHON=python3.11" >&2; exit 1; }
	$(VENV)/fuzz/bin/python -m tests.fuzz $(ARGS)

bench: setup ## measure, compare with a peer, and write docs/performance.md
	@sh provisioning/system-packages $(TEST_PACKAGES)
	test -x $(VENV)/peers/bin/python || $(PYTHON) -m venv $(VENV)/peers
	$(VENV)/peers/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/peers.lock
	$(BIN)/python -m tests.bench $(ARGS)

install: ## on this machine, as root, or into DESTDIR=DIR; without a network with WHEELS=DIR
	@sh provisioning/install.sh

uninstall: ## all of it, with DESTDIR= as above; KEEP=1 leaves configuration and state
	@sh provisioning/uninstall.sh

wheels: ## what installing without a network needs, into WHEELS=DIR
	@sh provisioning/wheels.sh

bundle: ## the release that booths take as an update, into BUNDLES=DIR (build/bundles); ARCH="amd64 arm64"
	@sh provisioning/system-packages python3
	@$${PYTHON:-/usr/bin/python3} provisioning/bundle.py --out "$(BUNDLES)" --arch "$(ARCH)" --cross "$(CROSS)"

schema: setup ## write docs/contract.schema.json from the types
	$(BIN)/python -m agent.contract.schema docs/contract.schema.json

runbook: setup ## write docs/runbook/README.md from the declarations
	$(BIN)/python docs/runbook/index.py

reference: setup ## write docs/peripherals.md, docs/commands.md and the JSON Schemas of what is configured and signed, from the declarations
	$(BIN)/python docs/reference.py
	$(BIN)/python docs/schemas.py
	$(BIN)/python docs/verbs.py

lock: setup ## pin every dependency again, with hashes
	$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
	    --no-annotate --custom-compile-command "make lock" requirements/build.in -o requirements/build.lock
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
	    --no-annotate --custom-compile-command "make lock" setup.cfg --all-extras -o requirements/dev.lock
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
	    --no-annotate --custom-compile-command "make lock" setup.cfg --extra scanner --extra receipts --extra gpio -o requirements/booth.lock
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
	    --no-annotate --custom-compile-command "make lock" --constraint requirements/booth.lock requirements/base.in -o requirements/base.lock
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
	    --no-annotate --custom-compile-command "make lock" requirements/peers.in -o requirements/peers.lock
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
	    --no-annotate --custom-compile-command "make lock" --constraint requirements/dev.lock requirements/fuzz.in -o requirements/fuzz.lock

clean: ## forget .venv/ and every cache
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
