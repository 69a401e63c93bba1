// Lines of -v are told whole where names are those of paths, however they must be quoted; of what lies deeper they are cut, visibly.

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createJobs } from "../../src/jobs/jobs.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { maxLineBytes } from "../../src/worker/protocol.ts";
import { testCaller, untilEnded } from "../support/jobs.ts";
import { temporaryDirectory } from "../support/temporary.ts";

/** The lines of a copy through the jobs room, whose worker is held to the protocol; and how the job ended. */
async function linesOf(source: string, destination: string): Promise<{ readonly lines: readonly string[]; readonly state: string }> {
  const jobs = createJobs({ mode: "session" });
  const lines: string[] = [];
  jobs.on("lines", (_job, more) => lines.push(...more));
  const options = { durability: "none", gnu: { verbose: true } };
  const job = jobs.submit(testCaller, null, requestSchema.parse({ operation: "copy", sources: [source], destination, options }));
  const { result } = await untilEnded(jobs, job);
  await jobs.shutdown();
  return { lines, state: result?.state ?? "" };
}

test("a line of two names as long as a path may be, of bytes that take most quoting, comes whole", async () => {
  await using temporary = await temporaryDirectory();
  const name = "'\x01".repeat(120);
  const depth = Math.floor((4095 - temporary.path.length - 20) / (name.length + 1));
  const path = join(temporary.path, "source", ...Array.from({ length: depth - 1 }, () => name));
  expect(Bun.spawnSync(["mkdir", "-p", path]).success).toBe(true);
  writeFileSync(join(path, "file"), "x");
  const { lines, state } = await linesOf(join(temporary.path, "source"), join(temporary.path, "copy"));
  expect(state).toBe("completed");
  const last = lines.find((line) => line.includes("/file'")) ?? "";
  expect(last.length).toBeGreaterThan(35_000);
  expect(last.match(/\/file'/g)).toHaveLength(2);
});

test("a line of names that no path could hold is cut and says so, and the job goes on", async () => {
  await using temporary = await temporaryDirectory();
  const name = "\x01".repeat(250);
  const deep = 'cd "$0" && mkdir source && cd source && for _ in $(seq 80); do mkdir "$1" && cd -P "./$1" || exit; done; echo x > file';
  expect(Bun.spawnSync(["bash", "-c", deep, temporary.path, name]).success).toBe(true);
  const { lines, state } = await linesOf(join(temporary.path, "source"), join(temporary.path, "copy"));
  expect(state).toBe("completed");
  expect(lines.length).toBe(82);
  const isCut = (line: string): boolean => /\.\.\. \(cut, of \d+ bytes\)$/.test(line);
  expect(lines.map(isCut)).toEqual(lines.map((line) => line.length === maxLineBytes));
  expect(isCut(lines.at(-1) ?? "")).toBe(true);
  expect(isCut(lines[10] ?? "")).toBe(false);
});
