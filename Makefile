# What to do with a checkout. `make` without a target lists it.

VENV := .venv
BIN := $(VENV)/bin
MEASURED := docs/measured
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
PYTEST := $(BIN)/python -m pytest --durations=20 --durations-min=1
WITH_CLUSTER := tests/real tests/rooms/slurm
WAITING := tests/rooms/users tests/rooms/web
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

LOCK := etc/requirements.lock
TESTS_LOCK := etc/requirements-tests.lock
SUPPLY := build/supply
WHEELHOUSE := build/wheelhouse
COMPILE := $(SUPPLY)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

.PHONY: help venv python host demo test test-real test-beside test-apart test-promises test-rooms test-waiting test-pyslurm attack outage bench bench-pyslurm bench-older lint docs lock sbom audit wheelhouse packages test-packages format clean screenshots
.DEFAULT_GOAL := help

help:  ## Say what there is.
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

venv: $(VENV)/stamp  ## Make .venv with everything that the targets below need.

demo: venv  ## Play UCloud's conversations with a real Slurm on this machine (about five minutes; ERA=2021 or 2022: with an earlier UCloud).
	$(BIN)/python -m tests.sandbox demo $(if $(ERA),--era $(ERA))

test:  ## Lint, types and all tests: what CI runs.
	@$(MAKE) --no-print-directory --jobs=2 venv host
	@$(MAKE) --no-print-directory --jobs=7 --output-sync=target lint test-real test-beside test-apart test-waiting test-promises test-rooms

test-real: venv  ## Only the first third of the tests that need a private cluster; they run one after the other.
	$(PYTEST) -m "real and not beside and not apart" $(WITH_CLUSTER)

test-beside: venv  ## Only the second third of these, on a cluster of its own: their jobs run as alice and bob.
	$(PYTEST) -m "real and beside" $(WITH_CLUSTER)

test-apart: venv  ## Only the last third, on a cluster and with homes of its own (root).
	$(PYTEST) -m "real and apart" --own-homes $(WITH_CLUSTER)

test-promises: venv  ## Only what is promised to UCloud, users and administrators, with a model of Slurm.
	$(PYTEST) -m "not real" --ignore=tests/rooms

test-rooms: venv  ## Only the tests of each room by itself, but for those that wait.
	$(PYTEST) -m "not real" $(addprefix --ignore=,$(WAITING)) tests/rooms

test-waiting: venv  ## Only the tests of the rooms users and web: they wait for limits of time, and little for a processor.
	$(PYTEST) -m "not real" $(WAITING)

test-pyslurm: venv  ## Real pyslurm with the Slurm of Debian sid, in a folder of its own (root; the first time it takes minutes).
	$(BIN)/python -m tests.sandbox sid run -- python -m pytest -m real --backend=pyslurm tests/rooms/slurm

screenshots: venv  ## Take the pictures of the documentation anew, with a real browser.
	UCLOUD_SLURM_SCREENSHOTS=docs/howto $(PYTEST) tests/real/test_operators_page.py

attack: venv  ## Attack the installed service from everywhere, and show what each attack got (root; about a quarter of an hour).
	$(BIN)/python -m tests.sandbox attack

outage: venv  ## Stop and kill every part while a thousand jobs live, and try builds that are broken (root; about twenty minutes; SEED=, STORIES=).
	$(BIN)/python -m tests.sandbox outage $(if $(SEED),--seed $(SEED)) $(if $(STORIES),--stories $(STORIES))
	@set -e; for build in repeated-submit lost-row invented-state; do $(BIN)/python -m tests.sandbox outage --broken $$build; done
	$(PYTEST) tests/promises/test_a_days_outage.py --live-jobs=5000

bench: venv  ## Measure everything beside Slurm's bare commands, and write it into the documentation (a quarter of an hour).
	@$(PIP) install --use-pep517 --editable '.[bench]'
	$(BIN)/python -m tests.sandbox bench --out $(MEASURED)
	$(BIN)/python -m tests.sandbox bench --only files --out $(MEASURED)
	$(BIN)/python -m tests.sandbox plots $(MEASURED)
	$(BIN)/python -m docs.generate

bench-pyslurm: venv  ## The same for creates with pyslurm, in a Debian sid in a folder (root; the first time it takes minutes).
	@$(PIP) install --use-pep517 --editable '.[bench]'
	$(BIN)/python -m tests.sandbox sid run --fetch $(MEASURED)/pyslurm.json -- \
		python -m tests.sandbox bench --backend pyslurm --out $(MEASURED)
	$(BIN)/python -m tests.sandbox plots $(MEASURED)
	$(BIN)/python -m docs.generate

bench-older: venv  ## An earlier commit (FROM=) and this checkout in turn, each by its own bench (a quarter of an hour; ROUNDS=).
	$(BIN)/python -m tests.sandbox older $(FROM) $(if $(ROUNDS),--rounds $(ROUNDS)) --out $(MEASURED)/older
	$(BIN)/python -m docs.generate

lint: venv  ## Style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: venv  ## Write the reference pages anew and build the documentation into build/docs.
	$(BIN)/python -m docs.generate
	$(BIN)/sphinx-build -q -W --keep-going docs build/docs

lock: $(SUPPLY)/stamp  ## Pin with hashes what setup.cfg asks for, into etc/*.lock (UPGRADE=1: the newest of all).
	$(COMPILE) setup.cfg --output-file $(LOCK)
	$(COMPILE) setup.cfg --extra tests --constraints $(LOCK) --output-file $(TESTS_LOCK)

sbom: $(SUPPLY)/stamp  ## List what the lock installs, in CycloneDX's form, into build/sbom.json.
	$(SUPPLY)/bin/cyclonedx-py requirements --mc-type application --output-reproducible --of JSON -o build/sbom.json $(LOCK)

audit: $(SUPPLY)/stamp  ## Look for known vulnerabilities of what the lock installs; an answer that does not come is a failure.
	$(SUPPLY)/bin/pip-audit --progress-spinner off --strict --require-hashes --disable-pip --requirement $(LOCK)

wheelhouse: venv  ## Everything that an installation without a network needs, for this Python, into build/wheelhouse.
	rm -rf $(WHEELHOUSE) build/lib build/scripts-*
	@$(PIP) download --require-hashes --only-binary :all: --requirement $(LOCK) --dest $(WHEELHOUSE)
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir $(WHEELHOUSE) .
	cp $(LOCK) $(WHEELHOUSE)

packages: sbom  ## Packages for Debian, Ubuntu and Enterprise Linux, into build/packages (FOR=debian12: only that one).
	$(BIN)/python -m packages $(FOR)

test-packages: venv  ## Install, upgrade and remove them under a systemd of their own (root; a quarter of an hour; FOR=, FROM=commit).
	FROM=$(or $(FROM),HEAD~1) $(BIN)/python -m packages.trial $(FOR)

format: venv  ## Bring the code into shape.
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

clean:  ## Delete what was made here, .venv too.
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# The system's Python where it is new enough: the sandbox runs the service as an account of its own, which may not
# be able to read a Python in somebody's home.
python:  ## Only the Python of .venv, without anything in it.
	@set -e; \
	python=python3; \
	if /usr/bin/python3 -c '$(NEW_ENOUGH)' 2>/dev/null; then python=/usr/bin/python3; fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing python3-venv"; \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get -qq update; \
		apt-get -qq install -y --no-install-recommends python3 python3-venv >/dev/null; \
		if /usr/bin/python3 -c '$(NEW_ENOUGH)'; then python=/usr/bin/python3; fi; \
	fi; \
	if ! $$python -c '$(NEW_ENOUGH)'; then echo "Python 3.11 or newer is needed."; exit 1; fi; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then $$python -m venv --clear $(VENV); fi

# The lock is whole, so that pip looks for nothing else; compiled by all processors. What cannot be compiled is not imported.
$(VENV)/stamp: setup.cfg setup.py $(TESTS_LOCK) | python
	@echo "installing what $(TESTS_LOCK) lists into $(VENV)"
	@$(PIP) install --no-deps --no-compile --require-hashes --requirement $(TESTS_LOCK)
	-@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib
	@$(PIP) install --use-pep517 --editable '.[tests]'
	@touch $@

# While pip installs. A test that misses a package says so.
host: python  ## Install the distribution's packages that the tests need, without starting anything of them (root).
	-@$(BIN)/python -m tests.sandbox.packages

# Tools of their own, which the product and its tests do not share anything with.
$(SUPPLY)/stamp: $(VENV)/stamp
	$(BIN)/python -m venv --clear $(SUPPLY)
	@$(SUPPLY)/bin/python -m pip --quiet --disable-pip-version-check install 'uv >= 0.8' 'pip-audit >= 2.9' 'cyclonedx-bom >= 7'
	@touch $@
