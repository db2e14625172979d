# The commands of the template. `make` alone lists them.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The newest Python that runs; a version manager's shim may exist without its Python.
RECENT := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	$$name -c '$(RECENT)' 2>/dev/null && echo $$name && break; done)

BIN := .venv/bin
OUTPUT ?= ..
WORKERS ?= 2

UPGRADE = --upgrade

DEMO := build/demo
RENDERED := build/rendered
PROJECT := iris-flower-prediction
TEMPLATE := {{cookiecutter.project_slug}}
FLAVORS := batch api both
PINNED := check-jsonschema nbstripout pre-commit-hooks ruff zizmor

# An environment contains the path of its folder, so it is made again in a moved or copied folder.
HERE := $(shell pwd -P | cksum | cut -d ' ' -f 1)
READY := .venv/ready-$(HERE)

export UV_PYTHON_DOWNLOADS := never

.PHONY: help
help: ## Show this help
	@echo "Usage: make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' Makefile
	@echo "Variables: PYTHON (interpreter), OUTPUT (folder of new projects), WORKERS, TESTS, ANSWERS, CHECKS, SECTIONS, OPTIONS"

.PHONY: demo
demo: $(READY) ## Render the default project, train, score and show the predictions
	@$(MAKE) --no-print-directory $(DEMO)/digest
	@$(MAKE) --no-print-directory -C $(DEMO)/$(PROJECT) run PYTHON=../../../$(BIN)/python
	@echo
	@echo "In $(DEMO)/$(PROJECT):"
	@echo "  README.md          what the project is, and how to put your own data and model in"
	@echo "  data/predictions/  the predictions; rows that were refused are in data/rejected/"
	@echo "  mlartifacts/       the model, its metrics and plots; make history lists the versions"
	@echo "  analysis/          the notebooks"
	@echo "A project of your own: make new"

# Rendered again if the template has changed. The project's own environment is kept.
$(DEMO)/digest: build/digest
	@echo "Rendering $(DEMO)/$(PROJECT)"
	@rm -rf $(DEMO).new
	@$(BIN)/cookiecutter . --no-input --default-config --output-dir $(DEMO).new >/dev/null
	@test ! -d $(DEMO)/$(PROJECT)/.venv || mv $(DEMO)/$(PROJECT)/.venv $(DEMO).new/$(PROJECT)/
	@rm -rf $(DEMO)
	@mv $(DEMO).new $(DEMO)
	@cp build/digest $@

# Written only if a file of the template has been changed, added or removed.
.PHONY: always
build/digest: always
	@mkdir -p build
	@find cookiecutter.json hooks '$(TEMPLATE)' -type f ! -path '*/__pycache__/*' \
		-exec cksum {} + | sort | cksum >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

.PHONY: new
new: $(READY) ## Ask the questions and render a project of your own into OUTPUT
	@$(BIN)/cookiecutter . --output-dir '$(OUTPUT)'

.PHONY: test
test: $(READY) ## Run the tests that need only Python, make and git: at most ten minutes
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m 'not slow'
	@$(MAKE) --no-print-directory machinery ARGS="-m 'not slow'"

.PHONY: test-all
test-all: test ## Run the others too: they need Java, Node, containers, a browser, PostgreSQL, Prometheus
	@$(MAKE) --no-print-directory test-slow
	@$(MAKE) --no-print-directory machinery ARGS="-m slow"
	@$(MAKE) --no-print-directory --jobs=$(WORKERS) --output-sync WORKERS=1 $(OTHERS:%=machinery-%)

.PHONY: generated
generated: $(MACHINERY)/both/ready-$(HERE) ## Write the files of the template that follow from its code
	@$(BIN)/python tools/generate.py $(CURDIR)/$(MACHINERY)/both/.venv/bin/python

.PHONY: test-slow
test-slow: $(READY) ## Run those of the template; TESTS=classification only those of that name
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m slow $(if $(TESTS),-k '$(TESTS)')

# tests/machinery runs in a few renderings; each runs only the folders (rooms) that its answers affect.
RENDERINGS := both spark regression gitlab azure
OTHERS := $(filter-out both,$(RENDERINGS))
ANSWERS_both := deployment_flavor=both
ANSWERS_regression := deployment_flavor=both problem_type=regression
ANSWERS_gitlab := deployment_flavor=both ci_provider=gitlab
ANSWERS_azure := deployment_flavor=both ci_provider=azure
ANSWERS_spark := deployment_flavor=both
ROOMS_both := api batch cases ci commands models monitoring pipelines schema tables training
ROOMS_regression := models/test_estimators.py models/test_export.py models/test_predict.py training
ROOMS_gitlab := ci/test_forge.py
ROOMS_azure := ci/test_forge.py
ROOMS_spark := spark
RENDERING := both
ROOMS = $(ROOMS_$(RENDERING))
MACHINERY := build/machinery

.PHONY: machinery
machinery: $(MACHINERY)/$(RENDERING)/ready-$(HERE) ## Run tests/machinery; RENDERING=spark, ROOMS="api batch", ARGS="-k kill"
	$(call test_rooms,$(RENDERING),$(ROOMS))

.PHONY: $(OTHERS:%=machinery-%)
$(OTHERS:%=machinery-%): machinery-%: $(MACHINERY)/%/ready-$(HERE)
	$(call test_rooms,$*,$(ROOMS_$*))

test_rooms = @cd tests/machinery && ../../$(MACHINERY)/$(1)/.venv/bin/python -m pytest \
	-n $(WORKERS) --dist loadfile $(2) $(ARGS)

# The environment of a rendered project, plus the requirements of the tests of the machinery.
$(MACHINERY)/%/ready-$(HERE): build/digest tests/machinery/requirements.txt | $(READY)
	@echo "Rendering $(@D)/$(PROJECT)"
	@rm -rf $(@D)/$(PROJECT) $(@D)/ready-*
	@$(BIN)/cookiecutter . --no-input --default-config --output-dir $(@D) $(ANSWERS_$*) >/dev/null
	@test -x $(@D)/.venv/bin/python || $(BIN)/python -m venv --without-pip $(@D)/.venv
	@$(BIN)/uv pip sync --quiet --python $(@D)/.venv --require-hashes tests/machinery/requirements.txt \
		$(@D)/$(PROJECT)/requirements-dev.txt $(if $(filter spark,$*),$(@D)/$(PROJECT)/requirements-spark.txt)
	@$(BIN)/uv pip install --quiet --python $(@D)/.venv --no-deps --no-build-isolation \
		--editable $(@D)/$(PROJECT)
	@touch $@

# As for a new user: a repository whose main branch has one commit.
CHECKS := ci
.PHONY: rendered-ci
rendered-ci: $(READY) ## Render ANSWERS="ci_provider=gitlab", and run what its pipeline runs
	@rm -rf $(RENDERED)
	@$(BIN)/cookiecutter . --no-input --default-config --output-dir $(RENDERED) $(ANSWERS) >/dev/null
	@git -C $(RENDERED)/$(PROJECT) init --quiet --initial-branch=main
	@git -C $(RENDERED)/$(PROJECT) add --all
	@git -C $(RENDERED)/$(PROJECT) -c user.name=CI -c user.email=ci@example.com \
		commit --quiet --message "Render"
	@BASE=main $(MAKE) --no-print-directory -C $(RENDERED)/$(PROJECT) $(CHECKS) \
		PYTHON="$$PWD/$(BIN)/python"

.PHONY: lint
lint: $(READY) ## Check the template's own code and workflows
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/zizmor --offline --pedantic --quiet .github/workflows

.PHONY: format
format: $(READY) ## Format the template's own code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: lock
lock: $(READY) ## Refresh every locked requirement, the rendered projects' too
	@$(BIN)/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command 'make lock' --group dev --output-file requirements.txt
	@for name in $(PINNED); do \
		version=$$(sed -n "s/^$$name==\([^ ]*\).*/\1/p" requirements.txt); \
		sed -i.old "s/\"$$name==[^\"]*\"/\"$$name==$$version\"/" \
			.pre-commit-config.yaml '$(TEMPLATE)/.pre-commit-config.yaml'; \
	done
	@rm -f .pre-commit-config.yaml.old '$(TEMPLATE)/.pre-commit-config.yaml.old'
	@rm -rf build/lock
	@for flavor in $(FLAVORS); do \
		folder=build/lock/$$flavor/$(PROJECT); \
		$(BIN)/cookiecutter . --no-input --default-config --output-dir build/lock/$$flavor \
			deployment_flavor=$$flavor >/dev/null && \
		$(MAKE) --no-print-directory -C $$folder lock PYTHON="$$PWD/$(BIN)/python" && \
		for file in $$folder/requirements*.txt; do \
			name=$$(basename $$file .txt); \
			test $$name = requirements-ci || name=$${name}_$$flavor; \
			cp $$file '$(TEMPLATE)'/$$name.txt || exit 1; \
		done || exit 1; \
	done
	@$(BIN)/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command 'make lock' --constraint '$(TEMPLATE)/requirements-dev_both.txt' \
		--group machinery --output-file tests/machinery/requirements.txt

.PHONY: bench
bench: $(READY) ## Measure a rendered project beside its peers; SECTIONS=... only some of them
	@$(BIN)/python bench/run.py $(SECTIONS)

.PHONY: bench-api
bench-api: $(READY) ## Measure a rendered API beside other servers; OPTIONS="--rounds 1"
	@$(BIN)/python bench/api/run.py $(OPTIONS)

.PHONY: clean
clean: ## Remove the environment and everything that was rendered here
	@rm -rf .venv build .pytest_cache .ruff_cache

# pip installs uv, with the version and the hashes in the lock; uv installs the rest.
$(READY): requirements.txt
	@'$(PYTHON)' -c '$(RECENT)' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed; name yours with PYTHON=/path/to/python." >&2; exit 1; }
	@echo "Making .venv with $$('$(PYTHON)' --version)"
	@'$(PYTHON)' -m venv --clear .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.txt >.venv/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement .venv/uv.txt
	@$(BIN)/uv pip install --quiet --python .venv --require-hashes --requirement requirements.txt
	@touch $@
