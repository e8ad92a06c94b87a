#!/usr/bin/env bash
# Everything that is checked besides the tests: generated code, contracts, style, types, who imports whom.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
step() { echo "── $1"; }

step "generated code and reference are what the contracts say"; python tools/generate.py --check
step "contracts (buf)"; python tools/buf_lint.py
step "style (ruff)"; ruff check --quiet .
ruff format --check --quiet .
step "types (mypy)"; mypy mesh security engine orchestrator integration analytics cli tools
step "who imports whom"; lint-imports
