// The vendor's own client, paging a content type into a file, as its documentation shows.
// Measures itself as measure.py does for the others.

"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { createRequire } = require("node:module");

const packages = path.join(__dirname, "..", ".envs", "vendor", "package.json");
const requireInstalled = createRequire(packages);
const { NodejsClient } = requireInstalled("contensis-management-api/lib/client");
const { version } = requireInstalled("contensis-management-api/package.json");

const setting = JSON.parse(process.argv[2]);
const contentTypeId = setting.listing.split("/").at(-2);
const file = path.join(setting.folder, "entries.jsonl");

function peakMb() {
  try {
    return Number(/VmHWM:\s*(\d+)/.exec(fs.readFileSync("/proc/self/status", "utf8"))[1]) / 1024;
  } catch {
    return process.resourceUsage().maxRSS / 1024;
  }
}

function countRows() {
  const descriptor = fs.openSync(file);
  const chunk = Buffer.alloc(1 << 20);
  let rows = 0;
  for (let size; (size = fs.readSync(descriptor, chunk)) > 0; ) {
    for (let at = chunk.indexOf(10); at >= 0 && at < size; at = chunk.indexOf(10, at + 1)) rows += 1;
  }
  fs.closeSync(descriptor);
  return rows;
}

async function exportEntries() {
  const client = NodejsClient.create({
    rootUrl: setting.url,
    projectId: setting.project_id,
    clientType: "client_credentials",
    clientDetails: { clientId: setting.client_id, clientSecret: setting.client_secret },
  });
  const output = fs.openSync(file, "w");
  for (let pageIndex = 0, pages = 1; pageIndex < pages; pageIndex += 1) {
    const page = await client.entries.list({
      contentTypeId,
      versionStatus: "published",
      pageOptions: { pageIndex, pageSize: setting.page_size },
    });
    pages = page.pageCount;
    fs.writeSync(output, page.items.map((entry) => JSON.stringify(entry) + "\n").join(""));
  }
  fs.closeSync(output);
}

async function main() {
  const baseline = peakMb();
  const cpuBefore = process.cpuUsage();
  const started = process.hrtime.bigint();
  await exportEntries();
  const seconds = Number(process.hrtime.bigint() - started) / 1e9;
  const cpu = process.cpuUsage(cpuBefore);
  const peak = peakMb();
  console.log(
    JSON.stringify({
      seconds,
      cpu_seconds: (cpu.user + cpu.system) / 1e6,
      rows: countRows(),
      bytes: fs.statSync(file).size,
      peak_mb: peak,
      baseline_mb: baseline,
      versions: { "contensis-management-api": version, node: process.versions.node },
    }),
  );
}

main().catch((error) => {
  console.error(String(error?.stack?.split("\n")[0] ?? JSON.stringify(error)));
  process.exit(1);
});
