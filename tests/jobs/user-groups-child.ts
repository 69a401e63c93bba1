// Runs jobs of the test worker in control groups of users, below the group it was started in: UID:MODE..., one after the other, with
// settings as JSON before them. Prints each end as a line of JSON; then waits for a line of input before it ends.

import { createJobs } from "../../src/jobs/jobs.ts";
import { openUserGroups } from "../../src/jobs/user-groups.ts";
import { Log } from "../../src/log.ts";
import { testRequest, testWorker, untilEnded } from "../support/jobs.ts";

const settings = JSON.parse(process.argv[2] ?? "{}") as { memoryBytes?: number; processes?: number; lingerMs?: number };
const log = new Log({ level: "warning", journal: false, write: (line) => process.stderr.write(line) });
const limits = { memoryBytes: settings.memoryBytes ?? 0, processes: settings.processes ?? 0 };
const groups = openUserGroups(
  { COPYD_DELEGATED: "1" },
  { limits, log, ...(settings.lingerMs !== undefined && { lingerMs: settings.lingerMs }) },
);
if ("reason" in groups) throw new Error(groups.reason);
say({ features: groups.features });
const jobs = createJobs({ mode: "session", self: testWorker, userGroups: groups, log });
for (const word of process.argv.slice(3)) {
  const [uid = "", mode = ""] = word.split(":");
  const job = jobs.submit({ uid: Number(uid), gid: 0, groups: [0] }, null, testRequest(mode));
  const { result } = await untilEnded(jobs, job);
  say({ uid: Number(uid), state: result?.state, code: result?.code ?? "", message: result?.message });
}
for await (const line of console) {
  if (line === "end") break;
  const changed = JSON.parse(line) as { memoryBytes: number; processes: number };
  groups.setLimits(changed);
  say({ changed: true });
}
await jobs.shutdown();
process.exit();

function say(what: object): void {
  process.stdout.write(`${JSON.stringify(what)}\n`);
}
