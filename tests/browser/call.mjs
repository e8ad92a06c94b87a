// Opens a page in headless Chromium and lets its script call the platform.
// node call.mjs CLIENT_FOLDER CHROMIUM PAGE_URL JSON, with {url, token, agent, input}; prints what came of it as JSON.

import { mkdtempSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [folder, chromium, page_url, given] = process.argv.slice(2);
const { chromium: browserType } = createRequire(join(folder, "package.json"))("playwright-core");
const context = await browserType.launchPersistentContext(mkdtempSync(join(tmpdir(), "chromium-")), {
  executablePath: chromium,
  ignoreHTTPSErrors: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
try {
  const page = await context.newPage();
  await page.goto(page_url);
  const came = await page.evaluate(async ({ url, token, agent, input }) => {
    const { connect, said } = globalThis.tiation;
    const attempt = async (work) => {
      try {
        return await work();
      } catch (error) {
        return said(error);
      }
    };
    const rest = await attempt(async () => {
      const headers = { authorization: `Bearer ${token}` };
      const answer = await fetch(`${url}/v1/tenants/default/agents`, { headers });
      return { status: answer.status, etag: answer.headers.get("etag") };
    });
    return {
      agents: await attempt(() => connect(url, token).agentNames("default")),
      events: await attempt(() => connect(url, token).work(agent, input)),
      stranger: await attempt(() => connect(url, "").agentNames("default")),
      other_tenant: await attempt(() => connect(url, token).agentNames("nobody")),
      rest,
    };
  }, JSON.parse(given));
  console.log(JSON.stringify(came));
} finally {
  await context.close();
}
