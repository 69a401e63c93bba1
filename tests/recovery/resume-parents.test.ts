// --parents: the directories above an argument have their attributes also where the worker that made them was killed.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ResumableJob } from "../support/resumable-job.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

let directory: TemporaryDirectory;
let path = "";

beforeEach(async () => {
  directory = await temporaryDirectory();
  path = directory.path;
});
afterEach(() => directory[Symbol.asyncDispose]());

const modes = { outer: 0o750, "outer/inner": 0o555 } as const;
const years = { outer: 1_000_000_000, "outer/inner": 1_100_000_000 } as const;
const names = Object.keys(modes) as (keyof typeof modes)[];

/** Mode, and the time where it is the source's. */
function attributesOf(destination: string): string[] {
  return names.map((name) => {
    const { mode, mtimeMs } = statSync(join(destination, name));
    return `${name} ${(mode & 0o777).toString(8)} ${mtimeMs === years[name] * 1000 ? "its time" : "another time"}`;
  });
}

const fileCount = 300;
/** For the worker that is to be killed on the way: a millisecond for each file, however fast the machine, or slow the test, is. */
const slowly = 10_000;

for (const [what, preserve] of [
  ["kept", ["mode", "times"]],
  ["made anew, with the owner's right to write taken back", []],
] as const) {
  for (const standing of ["nothing", "outer", "outer/inner"] as const) {
    test(`attributes ${what}, where ${standing} stood there: a kill changes nothing`, async () => {
      const inner = join(path, "outer", "inner");
      mkdirSync(join(inner, "tree"), { recursive: true });
      for (let file = 0; file < fileCount; file++) writeFileSync(join(inner, "tree", `${file}`), `content ${file}`);
      for (const name of names.toReversed()) {
        chmodSync(join(path, name), modes[name]);
        utimesSync(join(path, name), years[name], years[name]);
      }
      const [calm, rough] = [join(path, "calm"), join(path, "rough")];
      for (const destination of [calm, rough])
        mkdirSync(standing === "nothing" ? destination : join(destination, standing), { recursive: true });
      // What was made within a moment before the job counts as made by it.
      await Bun.sleep(300);
      const jobTo = (destination: string): ResumableJob => {
        const records = `${destination}-records`;
        mkdirSync(records);
        const typed = { program: "cp", sources: ["outer/inner/tree"], destination, charset: "utf-8" };
        const options = { durability: "none", preserve, umask: 0o022, recursive: true, gnu: { names: typed, parents: true } };
        return new ResumableJob(records, { operation: "copy", sources: [join(inner, "tree")], destination, options });
      };
      using undisturbed = jobTo(calm);
      expect((await undisturbed.run()).end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
      using job = jobTo(rough);
      const tree = join(rough, "outer", "inner", "tree");
      job.request.options.bandwidthLimit = slowly;
      const { end } = await job.run({ killWhen: () => existsSync(tree) && readdirSync(tree).length > 20, lanes: 1 });
      expect(end.kind).toBe("failed");
      job.request.options.bandwidthLimit = 0;
      expect((await job.run()).end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
      expect(attributesOf(rough)).toEqual(attributesOf(calm));
      expect(readdirSync(tree)).toHaveLength(fileCount);
    }, 30_000);
  }
}
