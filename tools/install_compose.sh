#!/usr/bin/env bash
# Brings what checks deploy/compose: docker-compose from Debian's packages unless it is here, and Prometheus' promtool into
# .cache/bin, without the server that its package would start.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v docker-compose >/dev/null && ! docker compose version >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker-compose >/dev/null
fi
if [ ! -x .cache/bin/promtool ]; then
    mkdir -p .cache/bin
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    (cd "$folder" && { apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; }; })
    dpkg -x "$folder"/prometheus_*.deb "$folder/prometheus"
    cp "$folder/prometheus/usr/bin/promtool" .cache/bin/promtool
fi
.cache/bin/promtool --version | head -n 1
