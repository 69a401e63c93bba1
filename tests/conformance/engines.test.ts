// Every engine against the one list, on every filesystem; and what changes under an engine's hands.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { appendFileSync, mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { type EngineChoice, engineChoices } from "../../src/request.ts";
import { copyOne } from "../engines/copying.ts";
import { filesystemKinds, mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { describeUnless } from "../support/skip.ts";
import { conformanceCases } from "./cases.ts";
import { difference } from "./sparse-compare.ts";

const mebibyte = 1024 * 1024;

/** Whether an engine has to serve: cloning needs a filesystem that clones, and only read-write makes or fills holes. */
function isServed(engine: EngineChoice, kind: string, sparse: "auto" | "always" | "never"): boolean {
  if (engine === "auto" || engine === "read-write") return true;
  if (sparse === "always") return false;
  if (engine === "copy-file-range") return sparse === "auto";
  if (engine === "reflink") return sparse === "auto" && (kind === "xfs" || kind === "btrfs");
  return true;
}

for (const kind of filesystemKinds) {
  describeUnless(whyNoFilesystem(kind), `on ${kind}`, () => {
    let filesystem: TestFilesystem;
    let path = "";
    beforeAll(async () => {
      filesystem = await mountFilesystem(kind);
      path = filesystem.path;
      mkdirSync(`${path}/sources`);
      for (const [index, one] of conformanceCases.entries()) one.make(`${path}/sources/${index}`);
    });
    afterAll(() => filesystem[Symbol.asyncDispose]());

    for (const engine of engineChoices) {
      for (const [index, one] of conformanceCases.entries()) {
        test(`${engine} copies ${one.name}`, () => {
          const sparse = one.sparse ?? "auto";
          const source = `${path}/sources/${index}`;
          const destination = `${path}/copy`;
          rmSync(destination, { force: true });
          const outcome = copyOne(source, destination, { engine, sparse });
          if (!isServed(engine, kind, sparse)) {
            expect(outcome.isEngineUnavailable).toBe(true);
            expect(statSync(destination).size).toBe(0);
            return;
          }
          expect(outcome.result).toBe(0);
          expect(difference(source, destination)).toBe(null);
          const { size, blocks } = statSync(destination);
          expect(outcome.length).toBe(size);
          if (one.maxAllocated !== undefined) expect(blocks * 512).toBeLessThanOrEqual(one.maxAllocated);
          if (one.minAllocated !== undefined) expect(blocks * 512).toBeGreaterThanOrEqual(one.minAllocated);
          if (engine !== "auto" && outcome.copied + outcome.cloned > 0) expect(outcome.engine).toBe(engine);
        });
      }

      test(`${engine} reads files of /proc and /sys, whose sizes lie, to their end`, () => {
        for (const pseudo of ["/proc/version", "/proc/crypto", "/proc/iomem", "/sys/kernel/mm/transparent_hugepage/enabled"]) {
          rmSync(`${path}/copy`, { force: true });
          const outcome = copyOne(pseudo, `${path}/copy`, { engine });
          if (engine === "reflink") {
            expect(outcome.isEngineUnavailable).toBe(true);
            continue;
          }
          // An engine that was forced and cannot read such a file says so; it never leaves an empty copy and calls it done.
          if (outcome.result !== 0) expect(engine).not.toBe("auto");
          if (outcome.result !== 0) expect(outcome.isEngineUnavailable).toBe(true);
          else expect(readFileSync(`${path}/copy`).equals(Bun.spawnSync(["cat", pseudo]).stdout)).toBe(true);
        }
      });

      if (engine === "reflink") continue;

      test(`${engine} follows a source that grows meanwhile`, () => {
        for (const [size, more] of [
          [100, 10],
          [3 * mebibyte, 2 * mebibyte + 1],
        ] as const) {
          const source = `${path}/growing`;
          writeFileSync(source, randomBytes(size));
          let grown = false;
          const control = {
            advanced: () => {
              if (!grown) appendFileSync(source, randomBytes(more));
              grown = true;
              return true;
            },
          };
          rmSync(`${path}/copy`, { force: true });
          const outcome = copyOne(source, `${path}/copy`, { engine, reflink: engine === "auto" ? "never" : "auto" }, control);
          expect(outcome.result).toBe(0);
          // A clone is one moment's picture; whoever reads goes on to the end.
          if (outcome.cloned === 0) expect(outcome.length).toBe(size + more);
          expect(readFileSync(`${path}/copy`).equals(readFileSync(source).subarray(0, outcome.length))).toBe(true);
        }
      });

      test(`${engine} ends where a source ends that shrinks meanwhile, and leaves nothing behind that end`, () => {
        for (const left of [1_500_000, 1, 0]) {
          const source = `${path}/shrinking`;
          const bytes = randomBytes(9 * mebibyte);
          writeFileSync(source, bytes);
          let shrunk = false;
          let told = 0;
          const control = {
            advanced: (count: number) => {
              told += count;
              if (!shrunk) truncateSync(source, left);
              shrunk = true;
              return true;
            },
          };
          rmSync(`${path}/copy`, { force: true });
          const outcome = copyOne(source, `${path}/copy`, { engine, reflink: engine === "auto" ? "never" : "auto" }, control);
          expect(outcome.result).toBe(0);
          const { size, blocks } = statSync(`${path}/copy`);
          expect(size).toBe(outcome.length);
          expect(size).toBe(told);
          expect(size).toBeGreaterThanOrEqual(left);
          expect(blocks * 512).toBeLessThanOrEqual(size + 4 * mebibyte);
          const copied = readFileSync(`${path}/copy`);
          expect(copied.subarray(0, left).equals(bytes.subarray(0, left))).toBe(true);
        }
      });

      test(`${engine} copies a source that another process writes, to a length that it had`, async () => {
        const source = `${path}/written`;
        writeFileSync(source, randomBytes(6 * mebibyte));
        const writer = Bun.spawn(["sh", "-c", `i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done >> ${source}`]);
        rmSync(`${path}/copy`, { force: true });
        const outcome = copyOne(source, `${path}/copy`, { engine });
        await writer.exited;
        expect(outcome.result).toBe(0);
        expect(outcome.length).toBeGreaterThanOrEqual(6 * mebibyte);
        expect(readFileSync(`${path}/copy`).equals(readFileSync(source).subarray(0, outcome.length))).toBe(true);
      });
    }
  });
}
