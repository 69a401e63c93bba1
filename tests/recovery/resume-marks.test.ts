// What a flush is known to have reached is not read again by whoever goes on, also where a move's caller asked for no durability.

import { expect } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { logStart, MarkWord, markStarts } from "../../src/worker/checkpoint-layout.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms } from "../support/process.ts";
import { countBelow, killedAfter, ResumableJob } from "../support/resumable-job.ts";
import { firstReason, testUnless } from "../support/skip.ts";

const fileBytes = 50_000;
const fileCount = 2000;
/** Ten seconds' worth, so that a mark is made on the way. */
const bandwidthLimit = (fileCount * fileBytes) / 10;

for (const isSameBoot of [true, false]) {
  testUnless(
    whyNoFilesystem("ext4"),
    `a move with durability=none whose ${isSameBoot ? "worker was killed" : "machine was off"} reads what the last seconds had copied, and no more`,
    async () => {
      await using from = await mountFilesystem("tmpfs");
      await using to = await mountFilesystem("ext4");
      const [source, records, destination] = [join(from.path, "tree"), join(from.path, "records"), join(to.path, "tree")];
      for (const path of [source, records]) mkdirSync(path);
      for (let file = 0; file < fileCount; file++) writeFileSync(join(source, `f${file}`), Buffer.alloc(fileBytes, `${file} `));
      const options = { target: "exact", durability: "none", engine: "read-write", bandwidthLimit };
      using job = new ResumableJob(records, { operation: "move", sources: [source], destination, options });
      await job.run(killedAfter(8000));
      const copied = readdirSync(destination).length * fileBytes;
      job.request.options.bandwidthLimit = 0;
      let readBytes = 0;
      const { end } = await job.run({
        isSameBoot,
        killWhen: ({ pid }) => {
          readBytes = Math.max(readBytes, readBy(pid));
          return false;
        },
      });
      expect(end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
      expect(readdirSync(destination)).toHaveLength(fileCount);
      // What is in doubt is compared, which reads it at both ends.
      const left = fileCount * fileBytes - copied;
      expect(readBytes - left).toBeLessThan(copied);
    },
    60_000,
  );
}

testUnless(
  firstReason(whyNoFilesystem("tmpfs"), havePrograms("strace") ? null : "strace is not installed"),
  "a mark covers what was there when its flush began, and nothing that came in the meantime",
  async () => {
    await using from = await mountFilesystem("tmpfs");
    const [source, records, destination] = ["tree", "records", "copy"].map((name) => join(from.path, name)) as [string, string, string];
    for (const path of [source, records]) mkdirSync(path);
    for (let file = 0; file < 250; file++) writeFileSync(join(source, `f${file}`), Buffer.alloc(fileBytes, `${file} `));
    // Twenty files a second, and two seconds of a flush.
    const options = { target: "exact", durability: "job", engine: "read-write", bandwidthLimit: 20 * fileBytes };
    using job = new ResumableJob(records, { operation: "copy", sources: [source], destination, options });
    const slowFlush = ["-e", "trace=syncfs", "-e", "inject=syncfs:delay_enter=2000000"];
    let [covered, copied] = [0, 0];
    const { end } = await job.run({
      under: ["strace", "-f", "-qq", "-o", "/dev/null", ...slowFlush],
      lanes: 1,
      killWhen: ({ pid }) => {
        if (covered > 0) return false;
        [covered, copied] = [coveredBy(job.checkpointPath), countBelow(destination)];
        // The worker itself: strace would let it go on.
        if (covered > 0) for (const worker of childrenOf(pid)) process.kill(worker, "SIGKILL");
        return false;
      },
    });
    expect([end.kind, covered > 0]).toEqual(["failed", true]);

    expect(copied - covered).toBeGreaterThan(20);
  },
  60_000,
);

/** Records of the first lane that a whole mark covers; 0: there is none. */
function coveredBy(checkpointPath: string): number {
  const bytes = readFileSync(checkpointPath);
  if (bytes.length < logStart) return 0;
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, logStart / 4);
  const marks = markStarts.map((start) => start / 4).filter((at) => words[at + MarkWord.check] !== 0);
  return Math.max(0, ...marks.map((at) => words[at + MarkWord.tails + 1] ?? 0));
}

/** Bytes that a process has read by read(2) and its like; 0 where it is gone. */
function readBy(pid: number): number {
  try {
    return Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "latin1"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
