#!/usr/bin/env bash
# Calls the platform with grpcurl, which learns the contracts by reflection: no stubs, no files.
# Usage: client.sh [AGENT INPUT]
set -euo pipefail

home=${TIATION_HOME:-.tiation}
address=${GATEWAY_ADDRESS:-127.0.0.1:8443}

call() { # [grpcurl's options] METHOD, the request on stdin
  grpcurl -cacert "$home/ca.pem" -H "Authorization: Bearer $(<"$home/token")" -d @ "$address" "$@"
}

if [[ $# -eq 0 ]]; then
  call tiation.orchestrator.v1.AgentService/ListAgents <<< '{"parent": "tenants/default"}'
  exit
fi

run="grpcurl-$(date +%s)-$$"
call tiation.orchestrator.v1.RunService/CreateRun \
  <<< "{\"parent\": \"tenants/default/agents/$1\", \"run_id\": \"$run\", \"run\": {\"input\": $2}}" > /dev/null
call tiation.orchestrator.v1.RunService/StreamRunEvents <<< "{\"name\": \"tenants/default/agents/$1/runs/$run\"}"
