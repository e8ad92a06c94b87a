#!/usr/bin/env bash
# Installs one lock file, quietly, and says what to do when that fails.
# Usage: tools/install.sh LOCK [FOLDER]; with FOLDER into that folder instead of the virtual environment.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=$1 folder=${2:-}
pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$lock")
[ -z "$folder" ] || pip+=(--target "$folder" --upgrade --no-deps)

free_mib=$(df --output=avail -m . | tail -n 1 | tr -d ' ')
if [ "$free_mib" -lt 1024 ]; then
    echo "error: only $free_mib MiB are free here, installing needs about 1024; make room and run again" >&2
    exit 1
fi
# Both own the module `onnxruntime`: where the other one was installed, neither would be whole.
for other in onnxruntime onnxruntime-gpu; do
    if [ -z "$folder" ] && ! grep -q "^$other==" "$lock" && grep -q '^onnxruntime' "$lock" &&
        .venv/bin/python -m pip show --quiet "$other" 2>/dev/null; then
        .venv/bin/python -m pip uninstall --quiet --disable-pip-version-check --yes "$other"
    fi
done
echo "Installing $lock ($(grep -c '==' "$lock") packages)"
"${pip[@]}" &
installing=$!
seconds=0
while kill -0 "$installing" 2>/dev/null; do
    sleep 1
    seconds=$((seconds + 1))
    [ $((seconds % 10)) -ne 0 ] || echo "  still installing after $seconds s"
done
if ! wait "$installing"; then
    echo "error: $lock could not be installed; check the network and pip's index settings, then run again" >&2
    exit 1
fi
[ -n "$folder" ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
# Compiled once here, our own packages start sooner, also where whoever runs them may not or does not write beside them.
[ -n "$folder" ] || .venv/bin/python -m compileall -q mesh gen cli security engine orchestrator integration analytics
