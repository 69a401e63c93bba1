// What a flush is known to have reached is not read again by whoever goes on, also where a move's caller asked for no durability.

import { expect } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { killedAfter, ResumableJob } from "../support/resumable-job.ts";
import { testUnless } from "../support/skip.ts";

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

/** Bytes that a process has read by read(2) and its like; 0 where it is gone. */
function readBy(pid: number): number {
  try {
    return Number(/^rchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "latin1"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
