// The faulty filesystem does what its rules say: other tests believe in its delays and faults.

import { expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { type FaultyFilesystemOptions, mountFaultyFilesystem, whyNoFaultyFilesystem } from "./faulty-filesystem.ts";
import { run, runChecked } from "./process.ts";
import { testUnless } from "./skip.ts";
import { temporaryDirectory } from "./temporary.ts";

const reason = whyNoFaultyFilesystem();

async function mounted(options: Omit<FaultyFilesystemOptions, "directory"> = {}) {
  const below = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
  const filesystem = await mountFaultyFilesystem({ directory: below.path, ...options });
  return {
    ...filesystem,
    below: below.path,
    async [Symbol.asyncDispose]() {
      await filesystem[Symbol.asyncDispose]();
      await below[Symbol.asyncDispose]();
    },
  };
}

function codeOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
  return "none";
}

testUnless(reason, "without rules it is the directory below, metadata and holes included", async () => {
  // Names of one inode are strangers to libfuse, and what was cached of one is not told to the other.
  await using fs = await mounted({ cacheMs: 0 });
  await runChecked([
    "sh",
    "-c",
    `cd ${fs.path} && mkdir d && echo hi >d/a && ln d/a d/b && ln -s a d/l && chmod 4750 d/a && chown 1000:1001 d/a
    setfattr -n user.x -v y d/a && touch -d 2001-02-03T04:05:06.789 d/a && truncate -s 1M d/sparse && mkfifo d/f`,
  ]);
  await runChecked(["rsync", "-aHAX", "--delete", `${fs.path}/`, `${fs.below}.copy/`]);
  const differences = await run(["rsync", "-aHAXnic", "--delete", `${fs.below}/`, `${fs.below}.copy/`]);
  await runChecked(["rm", "-rf", `${fs.below}.copy`]);
  expect(differences.stdout + differences.stderr).toBe("");
  expect(statSync(`${fs.path}/d/a`).ino).toBe(statSync(`${fs.path}/d/b`).ino);
  expect(statSync(`${fs.path}/d/sparse`).blocks).toBe(0);
  expect(await fs.injected()).toEqual([]);
});

testUnless(reason, "a call takes as long as asked, and many wait side by side", async () => {
  await using fs = await mounted({ delayMs: 100, cacheMs: 0 });
  for (let index = 0; index < 40; index++) writeFileSync(`${fs.below}/${index}`, "x");
  const oneStart = performance.now();
  expect(statSync(`${fs.path}/0`).size).toBe(1);
  expect(performance.now() - oneStart).toBeGreaterThanOrEqual(100);
  const start = performance.now();
  // Four calls a file and more: 16 s one after the other.
  const { stdout } = await runChecked(["sh", "-c", `seq 0 39 | xargs -P 40 -I{} cat ${fs.path}/{}`]);
  expect(stdout).toBe("x".repeat(40));
  expect(performance.now() - start).toBeLessThan(12_000);
});

testUnless(reason, "reads of a chosen range of a chosen file fail, and no others", async () => {
  const rules = [{ operations: ["read"], errno: "EIO", path: "*/bad", from: 8192, to: 8193 }] as const;
  await using fs = await mounted({ rules, directIo: true });
  await runChecked(["mkdir", `${fs.below}/d`]);
  for (const name of ["bad", "good"]) writeFileSync(`${fs.below}/d/${name}`, Buffer.alloc(16_384, 7));
  expect(readFileSync(`${fs.path}/d/good`).length).toBe(16_384);
  const fd = openSync(`${fs.path}/d/bad`, "r");
  const buffer = Buffer.alloc(4096);
  expect(readSync(fd, buffer, 0, 4096, 4096)).toBe(4096);
  expect(codeOf(() => readSync(fd, buffer, 0, 4096, 8192))).toBe("EIO");
  expect(readSync(fd, buffer, 0, 4096, 12_288)).toBe(4096);
  closeSync(fd);
  expect(await fs.injected()).toEqual(["read errno 8192 /d/bad"]);
});

testUnless(reason, "every Nth read fails, not the first ones, and only so often", async () => {
  const rules = [{ operations: ["read"], errno: "EIO", after: 1, every: 3, times: 2 }] as const;
  await using fs = await mounted({ rules, directIo: true });
  writeFileSync(`${fs.below}/a`, "x".repeat(100));
  const fd = openSync(`${fs.path}/a`, "r");
  const codes = Array.from({ length: 12 }, (_, at) => codeOf(() => readSync(fd, Buffer.alloc(1), 0, 1, at)));
  closeSync(fd);
  expect(codes.flatMap((code, at) => (code === "EIO" ? [at] : []))).toEqual([3, 6]);
});

testUnless(reason, "reads and writes are short where asked", async () => {
  const rules = [{ operations: ["read", "write"], shortBytes: 10, every: 2 }] as const;
  await using fs = await mounted({ rules, directIo: true });
  const fd = openSync(`${fs.path}/a`, "w+");
  expect(writeSync(fd, Buffer.alloc(100, 1), 0, 100, 0)).toBe(100);
  expect(writeSync(fd, Buffer.alloc(100, 2), 0, 100, 0)).toBe(10);
  expect(readSync(fd, Buffer.alloc(100), 0, 100, 0)).toBe(100);
  expect(readSync(fd, Buffer.alloc(100), 0, 100, 0)).toBe(10);
  closeSync(fd);
});

testUnless(reason, "a file's size is not what it was a moment ago", async () => {
  const rules = [{ operations: ["getattr"], size: "+5000", path: "/a", after: 2 }] as const;
  await using fs = await mounted({ rules, cacheMs: 0 });
  writeFileSync(`${fs.below}/a`, "abc");
  const sizes = Array.from({ length: 6 }, () => statSync(`${fs.path}/a`).size);
  expect(sizes[0]).toBe(3);
  expect(sizes.at(-1)).toBe(5003);
  await fs.setRules([{ operations: ["getattr"], size: 0 }]);
  expect(statSync(`${fs.path}/a`).size).toBe(0);
  await fs.setRules([]);
  expect(statSync(`${fs.path}/a`).size).toBe(3);
});

testUnless(reason, "fsync fails once and then says that all is well, as a disk does", async () => {
  await using fs = await mounted({ rules: [{ operations: ["fsync"], errno: "EIO", times: 1 }] });
  const fd = openSync(`${fs.path}/a`, "w");
  writeSync(fd, "data");
  expect([codeOf(() => fsyncSync(fd)), codeOf(() => fsyncSync(fd))]).toEqual(["EIO", "none"]);
  closeSync(fd);
});

testUnless(reason, "closing, creating, listing, renaming, truncating and attributes fail, each with its own errno", async () => {
  await using fs = await mounted({ cacheMs: 0 });
  writeFileSync(`${fs.below}/a`, "abc");
  const fd = openSync(`${fs.path}/a`, "r+");
  await fs.setRules([
    { operations: ["create", "mkdir"], errno: "ENOSPC" },
    { operations: ["opendir"], errno: "ESTALE" },
    { operations: ["truncate"], errno: "EFBIG" },
    { operations: ["flush"], errno: "EDQUOT", path: "/a" },
  ]);
  expect(codeOf(() => openSync(`${fs.path}/new`, "wx"))).toBe("ENOSPC");
  expect(codeOf(() => readdirSync(fs.path))).toBe("ESTALE");
  expect(codeOf(() => ftruncateSync(fd, 1))).toBe("EFBIG");
  expect(fstatSync(fd).size).toBe(3);
  closeSync(fd);
  const handle = await open(`${fs.path}/a`, "r");
  await handle.close().catch(() => {});
  expect((await fs.injected()).filter((line) => line === "flush errno 0 /a").length).toBe(2);
});

testUnless(reason, "one bit of a file is read wrong, and the medium is right", async () => {
  await using fs = await mounted({ rules: [{ operations: ["read"], flipOffset: 5000 }] });
  writeFileSync(`${fs.below}/a`, Buffer.alloc(10_000, 2));
  const read = readFileSync(`${fs.path}/a`);
  expect([...read.entries()].filter(([, byte]) => byte !== 2)).toEqual([[5000, 3]]);
  expect(readFileSync(`${fs.below}/a`).every((byte) => byte === 2)).toBe(true);
});

testUnless(reason, "an ordinary user's files are the user's, and permissions are kept", async () => {
  await using fs = await mounted();
  await runChecked(["chmod", "1777", fs.below]);
  writeFileSync(`${fs.below}/secret`, "x", { mode: 0o600 });
  const asUser = ["setpriv", "--reuid=1234", "--regid=1235", "--clear-groups"];
  await runChecked([...asUser, "sh", "-c", `mkdir ${fs.path}/d && echo x >${fs.path}/d/a && ln -s x ${fs.path}/d/l`]);
  const { stdout } = await runChecked(["find", `${fs.below}/d`, "-printf", "%U:%G\n"]);
  expect(stdout).toBe("1234:1235\n".repeat(3));
  expect((await run([...asUser, "cat", `${fs.path}/secret`])).status).toBe(1);
});

test("a rule that the program could not read is refused", async () => {
  if (reason !== null) return;
  const mountBad = mounted({ rules: [{ operations: ["read"], errno: "nonsense" }] });
  expect(mountBad).rejects.toThrow("cannot understand the rule");
  await mountBad.catch(() => {});
});
