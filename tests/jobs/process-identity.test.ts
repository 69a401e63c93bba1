// Which process a number means: the same number later may be another process, and an ended one may still have its number.

import { expect, test } from "bun:test";
import { copyFileSync } from "node:fs";
import { isAlive, processIdentity, startTimeOf } from "../../src/jobs/process-identity.ts";
import { temporaryDirectory } from "../support/temporary.ts";

test("a number with another start is another process, or none", async () => {
  await using child = Bun.spawn(["sleep", "60"]);
  const identity = processIdentity(child.pid);
  if (identity === null) throw new Error("the child is not there");
  expect(isAlive(identity)).toBe(true);
  expect(isAlive({ ...identity, startTime: `${Number(identity.startTime) - 1}` })).toBe(false);
  child.kill("SIGKILL");
  await child.exited;
  expect([isAlive(identity), processIdentity(child.pid)]).toEqual([false, null]);
});

test("one that has ended and that nobody reaps is gone", async () => {
  // sleep becomes the parent of a child that it does not know.
  await using parent = Bun.spawn(["sh", "-c", "sleep 0 & echo $!; exec sleep 60"], { stdout: "pipe" });
  const { value } = await parent.stdout.getReader().read();
  const pid = Number(Buffer.from(value ?? []).toString());
  const state = async (): Promise<string> => /^State:\s+(\w)/m.exec(await Bun.file(`/proc/${pid}/status`).text())?.[1] ?? "";
  while ((await state()) !== "Z") await Bun.sleep(5);
  expect([startTimeOf(pid), processIdentity(pid)]).toEqual(["", null]);
});

test("a program's name, which anybody may choose, is not read as what follows it", async () => {
  await using directory = await temporaryDirectory();
  const program = `${directory.path}/a) Z 1 2`;
  copyFileSync("/bin/sleep", program);
  await using child = Bun.spawn([program, "60"]);
  await Bun.sleep(50);
  expect((await Bun.file(`/proc/${child.pid}/comm`).text()).trim()).toBe("a) Z 1 2");
  expect(Number(startTimeOf(child.pid))).toBeGreaterThan(Number(startTimeOf(1)));
});
