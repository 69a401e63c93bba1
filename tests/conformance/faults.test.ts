// What engines do when a call does less than asked or fails: go on where they were, or fail on the right side, and never lie.

import { afterEach, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { Errno, errnoName } from "../../src/errno.ts";
import { libc } from "../../src/ffi/libc.ts";
import { Ring } from "../../src/ffi/ring.ts";
import { SubmissionQueue } from "../../src/ffi/submission.ts";
import { engineChoices } from "../../src/request.ts";
import { type CopyOutcome, copyOne } from "../engines/copying.ts";
import { mountFilesystem, tinySizeBytes, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, run, runChecked } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const mebibyte = 1024 * 1024;
const driver = new URL("../engines/copy-driver.ts", import.meta.url).pathname;
const reading = engineChoices.filter((name) => name !== "reflink");
const noStrace = havePrograms("strace") ? null : "strace is not installed";
const bytes = randomBytes(5 * mebibyte + 1234);

type Call = (...values: number[]) => number;

/** Replaces calls of libc until the test's end. */
function replace(calls: Record<string, (real: Call) => Call>): void {
  for (const [name, make] of Object.entries(calls)) {
    const real = realLibc[name as keyof typeof libc] as Call;
    Object.assign(libc, { [name]: make(real) });
  }
}
const realLibc = { ...libc };
const realQueue = { read: SubmissionQueue.prototype.prepareRead, write: SubmissionQueue.prototype.prepareWrite };
afterEach(() => {
  Object.assign(libc, realLibc);
  SubmissionQueue.prototype.prepareRead = realQueue.read;
  SubmissionQueue.prototype.prepareWrite = realQueue.write;
});

/** Every call does at most a part of what it is asked, never page-aligned, and every third is interrupted first. */
function partial(lengthIndex: number): (real: Call) => Call {
  let count = 0;
  return (real) =>
    (...values) => {
      count += 1;
      if (count % 3 === 0) return -Errno.EINTR;
      values[lengthIndex] = Math.min(values[lengthIndex] ?? 0, 1000 + ((count * 7919) % 300_000));
      return real(...values);
    };
}

describe("short reads, short writes and interrupted calls", () => {
  for (const engine of reading) {
    test(`${engine} goes on where they stopped`, async () => {
      await using directory = await temporaryDirectory();
      writeFileSync(`${directory.path}/source`, bytes);
      replace({ pread: partial(2), pwrite: partial(2), copyFileRange: partial(4), splice: partial(4) });
      let count = 0;
      SubmissionQueue.prototype.prepareRead = function (fd, address, length, ...rest) {
        return realQueue.read.call(this, fd, address, Math.min(length, 1000 + ((++count * 7919) % 300_000)), ...rest);
      };
      SubmissionQueue.prototype.prepareWrite = function (fd, address, length, ...rest) {
        return realQueue.write.call(this, fd, address, Math.min(length, 1000 + ((++count * 6007) % 200_000)), ...rest);
      };
      const outcome = copyOne(`${directory.path}/source`, `${directory.path}/copy`, { engine });
      expect(outcome.result).toBe(0);
      expect(outcome.length).toBe(bytes.length);
      expect(readFileSync(`${directory.path}/copy`).equals(bytes)).toBe(true);
    });
  }
});

describe("an errno that means unsupported, in the middle of a file", () => {
  // On tmpfs, and large enough for a ring: there copy_file_range comes after the ring and before read and write (bench/ring.md).
  const large = randomBytes(65 * mebibyte);
  const errnos = ["EXDEV", "EINVAL", "EOPNOTSUPP", "ENOSYS", "EPERM", "EACCES", "ETXTBSY", "ENOENT", "EBADF"] as const;
  for (const name of errnos) {
    test(`copy_file_range answering ${name} is followed by read and write at the same offset`, async () => {
      await using directory = await temporaryDirectory("/dev/shm");
      writeFileSync(`${directory.path}/source`, large);
      let calls = 0;
      replace({
        copyFileRange:
          (real) =>
          (...values) =>
            ++calls > 2 ? -Errno[name] : real(...values),
      });
      const { create } = Ring;
      Ring.create = () => ({ available: false, reason: "other", errno: Errno.EPERM, message: "forbidden by the test", remedy: "" });
      const offsets: number[] = [];
      const record: (real: Call) => Call =
        (real) =>
        (...values) => {
          offsets.push(values[3] ?? -1);
          return real(...values);
        };
      replace({ pread: record });
      const outcome = copyOne(`${directory.path}/source`, `${directory.path}/copy`);
      Ring.create = create;
      expect(outcome.result).toBe(0);
      expect(outcome.engine).toBe("read-write");
      expect(offsets.filter((offset) => offset < 2 * mebibyte)).toEqual([]);
      expect(readFileSync(`${directory.path}/copy`).equals(large)).toBe(true);
      expect(outcome.reasons[0]).toContain("io-uring: forbidden by the test");
    });
  }

  test("copy_file_range answering 0 before the end is not believed", async () => {
    await using directory = await temporaryDirectory();
    writeFileSync(`${directory.path}/source`, bytes);
    let calls = 0;
    replace({
      copyFileRange:
        (real) =>
        (...values) =>
          ++calls > 1 ? 0 : real(...values),
    });
    const outcome = copyOne(`${directory.path}/source`, `${directory.path}/copy`, { engine: "copy-file-range" });
    expect(outcome.result).toBe(-Errno.EOPNOTSUPP);
    expect(outcome.failedOffset).toBe(mebibyte);
  });

  // The same from the kernel's side of the call, with a ring forbidden as a container's seccomp profile does it.
  for (const [inject, next] of [
    ["copy_file_range:error=EXDEV:when=2+", "read-write"],
    ["copy_file_range:error=EOPNOTSUPP", "read-write"],
    ["ioctl:error=EOPNOTSUPP:when=1+", "copy-file-range"],
  ] as const) {
    testUnless(noStrace, `without io_uring and with ${inject}, ${next} serves`, async () => {
      await using directory = await temporaryDirectory("/dev/shm");
      writeFileSync(`${directory.path}/source`, large);
      const injections = ["-e", "inject=io_uring_setup:error=EPERM", "-e", `inject=${inject}`];
      const outcome = await drive(["strace", "-f", "-o", "/dev/null", ...injections], directory.path);
      expect([outcome.result, outcome.engine]).toEqual([0, next]);
      expect(readFileSync(`${directory.path}/copy`).equals(large)).toBe(true);
    });
  }
});

/** Runs the copy in a process of its own under a command, with SIGXFSZ ignored as the worker has it. */
async function drive(prefix: readonly string[], directory: string, options: object = {}): Promise<CopyOutcome> {
  const copy = [process.execPath, driver, `${directory}/source`, `${directory}/copy`, JSON.stringify(options)];
  const result = await runChecked([...prefix, "sh", "-c", 'trap "" XFSZ; exec "$@"', "sh", ...copy]);
  return JSON.parse(result.stdout);
}

describe("an errno that is an error", () => {
  for (const [name, side] of [
    ["EIO", "destination"],
    ["ENOSPC", "destination"],
    ["EDQUOT", "destination"],
  ] as const) {
    test(`copy_file_range answering ${name} ends the copy on the ${side}'s side`, async () => {
      await using directory = await temporaryDirectory();
      writeFileSync(`${directory.path}/source`, bytes);
      let calls = 0;
      replace({
        copyFileRange:
          (real) =>
          (...values) =>
            ++calls > 3 ? -Errno[name] : real(...values),
      });
      const outcome = copyOne(`${directory.path}/source`, `${directory.path}/copy`, { engine: "copy-file-range" });
      expect([errnoName(-outcome.result), outcome.failedSide]).toEqual([name, side]);
      expect([outcome.failedSyscall, outcome.failedOffset]).toEqual(["copy_file_range", 3 * mebibyte]);
      expect(outcome.isEngineUnavailable).toBe(false);
    });
  }

  for (const engine of reading) {
    testUnless(whyNoFilesystem("ext4"), `${engine} says that the destination is full when it is`, async () => {
      await using filesystem = await mountFilesystem("ext4", { sizeBytes: tinySizeBytes });
      await using directory = await temporaryDirectory();
      writeFileSync(`${directory.path}/source`, Buffer.concat(Array.from({ length: 6 }, () => bytes)));
      const outcome = copyOne(`${directory.path}/source`, `${filesystem.path}/copy`, { engine });
      // copy_file_range does not go from one of these to the other.
      if (engine === "copy-file-range") expect(outcome.isEngineUnavailable).toBe(true);
      else expect([errnoName(-outcome.result), outcome.failedSide]).toEqual(["ENOSPC", "destination"]);
    });

    testUnless(whyNoFilesystem("ext4"), `${engine} says that the source is unreadable when its medium is`, async () => {
      await using filesystem = await mountFilesystem("ext4", { sizeBytes: 64 * mebibyte });
      await using directory = await temporaryDirectory();
      const source = `${filesystem.path}/source`;
      writeFileSync(source, bytes);
      await runChecked(["sync", "-f", source]);
      await filesystem.remount();
      const image = (
        await runChecked([
          "losetup",
          "-n",
          "-O",
          "BACK-FILE",
          (await runChecked(["findmnt", "-n", "-o", "SOURCE", filesystem.path])).stdout.trim(),
        ])
      ).stdout.trim();
      const { size } = statSync(image);
      // What lies behind the image's end answers EIO; the inode, read before, is cached.
      statSync(source);
      const first = await firstBlock(source);
      truncateSync(image, first + mebibyte);
      const destination = engine === "copy-file-range" ? `${filesystem.path}/copy` : `${directory.path}/copy`;
      const outcome = copyOne(source, destination, { engine });
      truncateSync(image, size);
      expect([errnoName(-outcome.result), outcome.failedSide]).toEqual(["EIO", "source"]);
      expect(outcome.failedOffset).toBeLessThanOrEqual(mebibyte);
    });

    test(`${engine} writes up to the limit of file sizes and says EFBIG there`, async () => {
      await using directory = await temporaryDirectory();
      writeFileSync(`${directory.path}/source`, bytes);
      const limit = 2 * mebibyte + 777;
      const outcome = await drive(["prlimit", `--fsize=${limit}`], directory.path, { engine });
      expect([errnoName(-outcome.result), outcome.failedSide]).toEqual(["EFBIG", "destination"]);
      expect(statSync(`${directory.path}/copy`).size).toBe(limit);
    });
  }
});

/** Byte offset on the device of a file's first block. */
async function firstBlock(path: string): Promise<number> {
  const result = await run(["filefrag", "-v", "-b4096", path]);
  const start = /^\s*0:\s+0\.\.\s*\d+:\s+(\d+)\.\./m.exec(result.stdout)?.[1];
  if (start === undefined) throw new Error(result.stdout + result.stderr);
  return Number(start) * 4096;
}
