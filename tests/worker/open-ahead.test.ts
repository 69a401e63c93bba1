// Files behind a source that answers slowly are opened before their turn: within bounds, once each, and only what is to be read.

import { expect } from "bun:test";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { copydCommand, plainEnvironment, runCopyd } from "../support/cli.ts";
import { compareTrees } from "../support/compare.ts";
import { type FaultRule, type FaultyFilesystem, mountFaultyFilesystem, whyNoFaultyFilesystem } from "../support/faulty-filesystem.ts";
import { testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { makeOddTree } from "../support/tree.ts";

const files = 80;
const fileBytes = 3000;
/** Sixteen ahead and the one that is copied; and what is being closed, which waits for nothing but the server. */
const mostOpenAtOnce = 17;
const mostClosing = 4;
const reason = whyNoFaultyFilesystem();
/** The calls that are counted, in the log of what was injected. */
const counted: FaultRule = { operations: ["open", "read", "flush"], delayMs: 0.001 };

interface SlowSource extends AsyncDisposable {
  readonly directory: TemporaryDirectory;
  /** As it lies on the disk, and as it is copied. */
  readonly below: string;
  readonly source: string;
  readonly slow: FaultyFilesystem;
  readonly destination: string;
  cp(...options: readonly string[]): ReturnType<typeof runCopyd>;
}

/** One directory of files that all differ, seen with 2 ms a call. */
async function slowSource(rules: readonly FaultRule[] = [counted], cacheMs = 1000): Promise<SlowSource> {
  const directory = await temporaryDirectory();
  const below = `${directory.path}/below/flat`;
  mkdirSync(below, { recursive: true });
  for (let index = 0; index < files; index++) writeFileSync(`${below}/file-${index}`, randomBytes(fileBytes));
  const slow = await mountFaultyFilesystem({ directory: `${directory.path}/below`, delayMs: 2, cacheMs, rules });
  const source = `${slow.path}/flat`;
  const destination = `${directory.path}/copy`;
  return {
    directory,
    below,
    source,
    slow,
    destination,
    cp: (...options) => runCopyd(["cp", "-a", "-T", "--local", "--lanes=1", ...options, source, destination]),
    async [Symbol.asyncDispose]() {
      await slow[Symbol.asyncDispose]();
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** How many files were open at once, and how often files were opened and read. */
async function calls(slow: FaultyFilesystem): Promise<{ readonly atOnce: number; readonly opens: number; readonly reads: number }> {
  const lines = (await slow.injected()).map((line) => line.split(" ")[0]);
  let open = 0;
  let atOnce = 0;
  for (const operation of lines) {
    if (operation === "open") atOnce = Math.max(atOnce, ++open);
    if (operation === "flush") open--;
  }
  const count = (wanted: string): number => lines.filter((operation) => operation === wanted).length;
  return { atOnce, opens: count("open"), reads: count("read") };
}

testUnless(reason, "a slow source's files are opened and read some ahead, each of them once", async () => {
  await using here = await slowSource();
  // Read for the first time since they were written: that shows in the time of access, of which the copy gets what it was before.
  const [accessed, modified] = [new Date("2001-01-01"), new Date("2002-02-02")];
  for (const name of readdirSync(here.below)) utimesSync(`${here.below}/${name}`, accessed, modified);
  expect(await here.cp()).toMatchObject({ status: 0, stderr: "" });
  for (const name of readdirSync(here.destination)) expect(statSync(`${here.destination}/${name}`).atime).toEqual(accessed);
  const { atOnce, opens, reads } = await calls(here.slow);
  expect({ opens, reads }).toEqual({ opens: files, reads: files });
  expect(atOnce).toBeGreaterThan(8);
  expect(atOnce).toBeLessThanOrEqual(mostOpenAtOnce + mostClosing);
  expect(await compareTrees(here.below, here.destination)).toEqual([]);
});

testUnless(reason, "what may not be read, or need not be, is not opened ahead", async () => {
  await using here = await slowSource();
  const atOnce = async (...options: readonly string[]): Promise<number> => {
    const before = (await here.slow.injected()).length;
    expect(await here.cp(...options)).toMatchObject({ status: 0, stderr: "" });
    const slow = { ...here.slow, injected: async () => (await here.slow.injected()).slice(before) };
    return (await calls(slow)).atOnce;
  };
  expect(await atOnce("--cache=drop")).toBe(1);
  for (let index = 0; index < files; index++) if (index % 2 > 0) rmSync(`${here.destination}/file-${index}`);
  // Half of them are to be copied, but nobody knows which before the destination was looked at.
  expect(await atOnce("-n")).toBe(1);
  expect(await atOnce()).toBeGreaterThan(8);
  rmSync(here.destination, { recursive: true });
  expect(await atOnce("--limit-rate=1G")).toBe(1);
  expect(await compareTrees(here.below, here.destination)).toEqual([]);
});

testUnless(
  reason,
  "a file that could not be opened or read ahead is copied in its turn, and one that cannot be at all is told once",
  async () => {
    await using here = await slowSource([
      { operations: ["open"], errno: "EIO", path: "/flat/file-1*", every: 2 },
      { operations: ["read"], errno: "EIO", path: "/flat/file-2*", every: 2 },
      { operations: ["open"], errno: "EACCES", path: "/flat/file-77" },
    ]);
    const { status, stderr } = await here.cp();
    expect({ status, stderr }).toEqual({ status: 1, stderr: `cp: cannot open '${here.source}/file-77' for reading: Permission denied\n` });
    expect(readdirSync(here.destination)).toHaveLength(files - 1);
    const differences = await compareTrees(here.below, here.destination, { rsyncOptions: ["--exclude=/file-77"] });
    // The directory's own times are those of its source, of which one name is missing.
    expect(differences.filter((line) => !line.includes("file-77"))).toEqual([]);
  },
);

testUnless(reason, "a file that is rewritten after it was opened ahead is copied as it is by then", async () => {
  // The kernel believes nothing; one file in the middle takes long, while those after it are open.
  await using here = await slowSource(
    [counted, { operations: ["listxattr"], delayMs: 1500, path: "/flat/file-*", after: 40, times: 1 }],
    0,
  );
  const copying = here.cp();
  const slowest = async (): Promise<string | undefined> =>
    (await here.slow.injected())
      .find((line) => line.startsWith("listxattr "))
      ?.split("/")
      .at(-1);
  while ((await slowest()) === undefined) await Bun.sleep(10);
  await Bun.sleep(300);
  const rewritten = readdirSync(here.below).filter((name) => !existsSync(`${here.destination}/${name}`));
  const slow = await slowest();
  for (const name of rewritten) if (name !== slow) writeFileSync(`${here.below}/${name}`, randomBytes(fileBytes));
  expect(rewritten.length).toBeGreaterThan(files / 4);
  expect(await copying).toMatchObject({ status: 0, stderr: "" });
  for (const name of readdirSync(here.below)) {
    expect(readFileSync(`${here.destination}/${name}`).equals(readFileSync(`${here.below}/${name}`))).toBe(true);
    expect(statSync(`${here.destination}/${name}`).mtimeMs).toBe(statSync(`${here.below}/${name}`).mtimeMs);
  }
});

testUnless(reason, "a cancel ends it at once, and what was opened ahead is nobody's any more", async () => {
  await using here = await slowSource([counted, { operations: ["listxattr"], delayMs: 100, path: "/flat/file-*" }]);
  const command = copydCommand("cp", "-a", "--local", "--lanes=1", here.source, here.destination);
  const child = Bun.spawn(command, { env: plainEnvironment, stdin: "ignore", stdout: "ignore", stderr: "ignore" });
  while (!existsSync(here.destination) || readdirSync(here.destination).length < 20) await Bun.sleep(10);
  const before = performance.now();
  child.kill("SIGINT");
  await child.exited;
  expect(performance.now() - before).toBeLessThan(2000);
  expect(readdirSync(here.destination).length).toBeLessThan(files / 2);
  for (const name of readdirSync(here.destination)) expect(statSync(`${here.destination}/${name}`).size).toBe(fileBytes);
});

testUnless(
  reason,
  "an odd tree is copied truly by several lanes from a slow source, files that bypass the page cache included",
  async () => {
    for (const directIo of [false, true]) {
      await using directory = await temporaryDirectory();
      const below = `${directory.path}/below`;
      mkdirSync(below);
      // What FUSE as this filesystem speaks it does not carry.
      await makeOddTree(below, { plainFiles: 200, without: ["acls", "deep-paths"] });
      await using slow = await mountFaultyFilesystem({ directory: below, delayMs: 1, directIo });
      const { status, stderr } = await runCopyd(["cp", "-a", "-T", "--local", "--lanes=3", slow.path, `${directory.path}/copy`]);
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      expect(await compareTrees(below, `${directory.path}/copy`, { holes: "any" })).toEqual([]);
    }
  },
);
