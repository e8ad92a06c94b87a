#!/usr/bin/env bash
# Installs Chromium from Debian's packages unless it is here: the tests let a web page call the platform.
set -euo pipefail
if command -v chromium >/dev/null; then
    exit 0
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
chromium --version
