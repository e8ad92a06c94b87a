#!/usr/bin/env bash
# Calls the platform with curl: lists the agents, starts a run, follows its events, reads what came of it.
# Usage: client.sh [AGENT INPUT]
set -euo pipefail

home=${TIATION_HOME:-.tiation}
url=${GATEWAY_URL:-https://127.0.0.1:8443}

call() { # METHOD PATH [curl's options]
  curl --silent --show-error --fail-with-body --cacert "$home/ca.pem" \
    -H "Authorization: Bearer $(<"$home/token")" -H "Content-Type: application/json" -X "$1" "$url/v1/$2" "${@:3}"
}

if [[ $# -eq 0 ]]; then
  call GET "tenants/default/agents?pageSize=50"
  exit
fi

# The id is ours, so that the same request again starts nothing twice.
id="curl-$(date +%s)-$$"
call POST "tenants/default/agents/$1/runs?runId=$id" -d "{\"input\": $2}" > /dev/null
call GET "tenants/default/agents/$1/runs/$id:streamEvents" --no-buffer # server-sent events, until the run has ended
call GET "tenants/default/agents/$1/runs/$id"
