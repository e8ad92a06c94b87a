// For a browser: the platform over gRPC-Web. Bundled into dist/page.js, it offers its functions to the page's scripts.

import { ConnectError, Code } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { agentNames, withToken, work } from "./tiation.js";

/** The platform at `baseUrl`, for who holds the token. */
function connect(baseUrl: string, token: string) {
  const transport = createGrpcWebTransport({ baseUrl, interceptors: token ? [withToken(token)] : [] });
  return {
    agentNames: (tenant: string) => agentNames(transport, tenant),
    work: async (agent: string, input: string) => {
      const events: string[] = [];
      for await (const event of work(transport, agent, JSON.parse(input))) {
        events.push(event);
      }
      return events;
    },
  };
}

/** An error as text: its code and what the platform said. */
function said(error: unknown): string {
  const known = ConnectError.from(error);
  return `${Code[known.code]}: ${known.rawMessage}`;
}

Object.assign(globalThis, { tiation: { connect, said } });
