// What one does with the platform first, on whatever transport: list, run, follow.

import { create } from "@bufbuild/protobuf";
import { type JsonValue } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { fromJson } from "@bufbuild/protobuf";
import { createClient, type Interceptor, type Transport } from "@connectrpc/connect";

import { AgentService } from "../gen/tiation/orchestrator/v1/agent_pb.js";
import {
  RunEvent_Type,
  RunSchema,
  RunService,
} from "../gen/tiation/orchestrator/v1/run_pb.js";

/** Sends the access token with every call. */
export function withToken(token: string): Interceptor {
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
}

/** The names of a tenant's agents, all pages of them. */
export async function agentNames(transport: Transport, tenant: string): Promise<string[]> {
  const agents = createClient(AgentService, transport);
  const names: string[] = [];
  let pageToken = "";
  do {
    const page = await agents.listAgents({ parent: `tenants/${tenant}`, pageToken });
    names.push(...page.agents.map((agent) => agent.name));
    pageToken = page.nextPageToken;
  } while (pageToken);
  return names;
}

/** Starts a run and yields its events as text until it has ended. */
export async function* work(transport: Transport, agent: string, input: JsonValue): AsyncGenerator<string> {
  const runs = createClient(RunService, transport);
  const run = create(RunSchema, { input: fromJson(ValueSchema, input) });
  const started = await runs.createRun({ parent: agent, run });
  for await (const { event } of runs.streamRunEvents({ name: started.name })) {
    if (event) {
      yield `${event.sequence} ${RunEvent_Type[event.type]} ${event.step}`.trim();
    }
  }
}
