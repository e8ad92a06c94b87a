// For Node.js: the platform over gRPC. node dist/command.js HOME lists the agents; with AGENT and INPUT it lets one work.

import { readFileSync } from "node:fs";

import { createGrpcTransport } from "@connectrpc/connect-node";

import { agentNames, withToken, work } from "./tiation.js";

const [home, agent, input] = process.argv.slice(2);
if (home === undefined) {
  console.error("usage: node dist/command.js HOME [AGENT INPUT], for example .tiation support-triage '{\"id\": \"1\"}'");
  process.exit(2);
}
const gateway = JSON.parse(readFileSync(`${home}/gateway.json`, "utf8"));
const transport = createGrpcTransport({
  baseUrl: gateway.url,
  nodeOptions: { ca: readFileSync(gateway.ca) },
  interceptors: [withToken(readFileSync(gateway.token_file, "utf8").trim())],
});
if (agent === undefined) {
  console.log((await agentNames(transport, "default")).join("\n"));
} else {
  for await (const event of work(transport, `tenants/default/agents/${agent}`, JSON.parse(input ?? "null"))) {
    console.log(event);
  }
}
