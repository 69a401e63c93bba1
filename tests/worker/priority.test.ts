// A job of low priority runs in the idle class, on every thread that is started after.

import { expect, test } from "bun:test";
import os from "node:os";
import { join } from "node:path";

const child = `
  import { applyPriority } from ${JSON.stringify(join(import.meta.dir, "../../src/worker/priority.ts"))};
  import { libc } from ${JSON.stringify(join(import.meta.dir, "../../src/ffi/libc.ts"))};
  import os from "node:os";
  applyPriority(process.argv[1]);
  const ioprioGet = process.arch === "arm64" ? 31 : 252;
  console.log(libc.syscall(ioprioGet, 1, 0) >> 13, os.getPriority());
`;

const classAndNiceness = (priority: string): string => Bun.spawnSync([process.execPath, "-e", child, priority]).stdout.toString().trim();

/** The test run itself may have been made to give way. */
const ownNiceness = os.getPriority();

test("low is the idle class and a high niceness", () => {
  expect(classAndNiceness("low")).toBe("3 15");
});

test("normal changes nothing", () => {
  expect(classAndNiceness("normal")).toMatch(new RegExp(`^[0-3] ${ownNiceness}$`));
});

test("high is the best-effort class's first level", () => {
  expect(classAndNiceness("high")).toBe(`2 ${ownNiceness}`);
});
