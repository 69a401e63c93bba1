// Rules 5 and 12 of copying: a source that is rewritten while it is copied is never silently torn, and never deleted.

import { expect } from "bun:test";
import { appendFileSync, existsSync, readdirSync } from "node:fs";
import { copydCommand, plainEnvironment } from "../../support/cli.ts";
import { startJob } from "../../support/embedded-job.ts";
import { type FaultyFilesystem, mountFaultyFilesystem, whyNoFaultyFilesystem } from "../../support/faulty-filesystem.ts";
import { havePrograms, run } from "../../support/process.ts";
import { testUnless } from "../../support/skip.ts";
import { temporaryDirectory } from "../../support/temporary.ts";

/** Reads of the source take so long that whatever happens after the first one happens in the middle. */
async function slowSource(path: string): Promise<FaultyFilesystem> {
  await Bun.write(`${path}/below/log`, Buffer.alloc(4 * 1024 * 1024, 7));
  return await mountFaultyFilesystem({
    directory: `${path}/below`,
    directIo: true,
    cacheMs: 0,
    rules: [
      { operations: ["read"], delayMs: 100 },
      { operations: ["copy_file_range"], errno: "EOPNOTSUPP" },
    ],
  });
}

/** Rewrites the source as soon as some of it was read. */
async function rewrite(path: string, source: FaultyFilesystem): Promise<void> {
  while (!(await source.injected()).some((line) => line.startsWith("read "))) await Bun.sleep(10);
  appendFileSync(`${path}/below/log`, "appended meanwhile\n");
}

testUnless(whyNoFaultyFilesystem(), "a job of the service fails that file by name, and leaves no copy", async () => {
  await using here = await temporaryDirectory();
  await using source = await slowSource(here.path);
  const job = startJob([`${source.path}/log`], `${here.path}/copy`, { target: "exact" });
  await job.worker();
  await rewrite(here.path, source);
  const end = await job.ended;
  expect(end.state).toBe("failed");
  expect(job.errors.map(({ code, message }) => ({ code, message }))).toEqual([
    { code: "source-changed", message: `'${source.path}/log' changed while it was copied` },
  ]);
  expect(readdirSync(here.path).filter((name) => name !== "below")).toEqual([]);
});

testUnless(whyNoFaultyFilesystem(), "cp copies a log that is being written, and says so", async () => {
  await using here = await temporaryDirectory();
  await using source = await slowSource(here.path);
  const command = copydCommand("cp", "--local", "--lanes=1", `${source.path}/log`, "copy");
  const copying = run(command, { cwd: here.path, env: { ...plainEnvironment, XDG_RUNTIME_DIR: here.path } });
  await rewrite(here.path, source);
  const { status, stderr } = await copying;
  expect({ status, stderr }).toEqual({ status: 0, stderr: `cp: '${source.path}/log' changed while it was copied\n` });
});

testUnless(whyNoFaultyFilesystem(), "a move keeps a source that changed", async () => {
  await using here = await temporaryDirectory();
  await using source = await slowSource(here.path);
  const command = copydCommand("mv", "--local", "--lanes=1", `${source.path}/log`, here.path);
  const moving = run(command, { cwd: here.path, env: { ...plainEnvironment, XDG_RUNTIME_DIR: here.path } });
  await rewrite(here.path, source);
  const { status, stderr } = await moving;
  expect(status).toBe(1);
  expect(stderr).toContain(`'${source.path}/log'`);
  expect(existsSync(`${here.path}/below/log`)).toBe(true);
});

testUnless(
  havePrograms("strace") ? null : "strace is not installed",
  "a small file that grows after its size was read is copied to its new end",
  async () => {
    await using here = await temporaryDirectory();
    await Bun.write(`${here.path}/log`, "first line\n");
    const copying = run(
      ["strace", "-f", "-o", `${here.path}/trace`, "-e", "trace=openat,pwrite64", "-e", "inject=pwrite64:delay_enter=2000000"].concat(
        copydCommand("cp", "-p", "--local", "--lanes=1", `${here.path}/log`, `${here.path}/copy`),
      ),
      { env: { ...plainEnvironment, XDG_RUNTIME_DIR: here.path } },
    );
    while (!(await opened(`${here.path}/trace`, `${here.path}/log`))) await Bun.sleep(10);
    // Its size is read in the microseconds after the open, its data written two seconds later.
    await Bun.sleep(500);
    appendFileSync(`${here.path}/log`, "second line\n");
    const { status, stderr } = await copying;
    expect({ status, stderr }).toEqual({ status: 0, stderr: `cp: '${here.path}/log' changed while it was copied\n` });
    expect(await Bun.file(`${here.path}/copy`).text()).toBe("first line\nsecond line\n");
  },
);

async function opened(trace: string, path: string): Promise<boolean> {
  return (await Bun.file(trace).exists()) && (await Bun.file(trace).text()).includes(`"${path}"`);
}
