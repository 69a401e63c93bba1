// Between two runs of a move somebody else puts something new under a source's name, or under a name at the destination: what was moved
// before is perhaps the only copy, and what was not moved is perhaps the only one of that.

import { expect, test } from "bun:test";
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { directoryOfEachTest } from "../support/each-test.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, runChecked } from "../support/process.ts";
import { killedAt, ResumableJob } from "../support/resumable-job.ts";
import { firstReason, testUnless } from "../support/skip.ts";

const directory = directoryOfEachTest();

const files = 40;
const policies = ["overwrite", "skip", "fail", "rename", "newer", "differs"] as const;
const lacking = firstReason(whyNoFilesystem("tmpfs"), havePrograms("strace") ? null : "strace is not installed");

function makeSource(source: string): void {
  mkdirSync(source);
  for (let index = 0; index < files; index++) writeFileSync(join(source, `f${index}`), `first ${index}`);
}

/** All contents below a directory. */
function contentsBelow(at: string): string[] {
  if (!existsSync(at)) return [];
  return readdirSync(at)
    .map((name) => readFileSync(join(at, name), "utf8"))
    .sort();
}

for (const onConflict of policies) {
  testUnless(
    lacking,
    `${onConflict}: a name that is used anew after its file was moved does not cost that file`,
    async () => {
      await using other: TestFilesystem = await mountFilesystem("tmpfs");
      const [source, destination] = [join(directory.path, "source"), join(other.path, "destination")];
      makeSource(source);
      using job = new ResumableJob(directory.path, {
        operation: "move",
        sources: [source],
        destination,
        options: { target: "exact", onConflict },
      });
      const first = await job.run(killedAt("unlinkat", 12));
      expect(first.end.kind).toBe("failed");
      const gone = Array.from({ length: files }, (_, index) => `f${index}`).filter((name) => !existsSync(join(source, name)));
      expect(gone.length).toBeGreaterThan(2);
      for (const name of gone.slice(0, 2)) writeFileSync(join(source, name), `second ${name}`);
      const { errors, end } = await job.run();
      expect(end).toMatchObject({ kind: "result", result: { outcome: "failed" } });
      expect(errors.map((error) => error.replace(/.*'(.*)'/, "$1")).toSorted()).toHaveLength(2);
      for (const error of errors) expect(error).toContain("changed or appeared while it was moved, and was left in place");
      for (let index = 0; index < files; index++) expect(readFileSync(join(destination, `f${index}`), "utf8")).toBe(`first ${index}`);
      expect(contentsBelow(source)).toEqual(
        gone
          .slice(0, 2)
          .map((name) => `second ${name}`)
          .sort(),
      );
    },
    60_000,
  );

  testUnless(
    lacking,
    `${onConflict}: a file that somebody else made at the destination, alike or not, is as good as in an undisturbed move`,
    async () => {
      await using other: TestFilesystem = await mountFilesystem("tmpfs");
      const [source, calm] = [join(directory.path, "source"), join(directory.path, "calm")];
      for (const at of [source, calm]) makeSource(at);
      linkSync(join(source, "f5"), join(source, "g5"));
      linkSync(join(calm, "f5"), join(calm, "g5"));
      const request = (from: string, to: string) => ({
        operation: "move",
        sources: [from],
        destination: join(other.path, to),
        options: { target: "exact", onConflict },
      });
      for (const to of ["calm", "rough"]) mkdirSync(join(other.path, to));
      using job = new ResumableJob(directory.path, request(source, "rough"));
      // In the midst of the copy: each file is published by one call.
      await job.run(killedAt("linkat", 20));
      const taken = readdirSync(source).filter((name) => !existsSync(join(other.path, "rough", name)));
      expect(taken.length).toBeGreaterThan(4);
      for (const to of ["calm", "rough"]) {
        for (const [index, name] of taken.slice(0, 4).entries()) {
          const at = join(other.path, to, name);
          if (index % 2 === 0) Bun.spawnSync(["cp", "-a", join(to === "calm" ? calm : source, name), at]);
          else writeFileSync(at, "somebody else's");
        }
      }
      mkdirSync(join(directory.path, "records"));
      using undisturbed = new ResumableJob(join(directory.path, "records"), request(calm, "calm"));
      const wanted = await undisturbed.run();
      const { errors, end } = await job.run();
      const plain = (list: readonly string[]): string[] => list.map((error) => error.replaceAll(/rough|source/g, "calm")).sort();
      expect(plain(errors)).toEqual(plain(wanted.errors));
      expect(end.kind === "result" && end.result.outcome).toBe(wanted.end.kind === "result" && wanted.end.result.outcome);
      expect(namesBelow(source)).toEqual(namesBelow(calm));
      expect(contentsBelow(join(other.path, "rough"))).toEqual(contentsBelow(join(other.path, "calm")));
    },
    60_000,
  );
}

testUnless(
  lacking,
  "after a power cut what has the size of what was moved, or its time, is not taken for it",
  async () => {
    await using other: TestFilesystem = await mountFilesystem("tmpfs");
    const [source, destination] = [join(directory.path, "source"), join(other.path, "destination")];
    makeSource(source);
    const request = { operation: "move", sources: [source], destination, options: { target: "exact" } };
    using job = new ResumableJob(directory.path, request);
    expect((await job.run(killedAt("unlinkat", 12))).end.kind).toBe("failed");
    const [sized = "", timed = ""] = Array.from({ length: files }, (_, index) => `f${index}`).filter(
      (name) => !existsSync(join(source, name)),
    );
    writeFileSync(join(source, sized), sized.replace("f", "other "));
    writeFileSync(join(source, timed), `longer than ${timed}`);
    await runChecked(["touch", "-r", join(destination, timed), join(source, timed)]);
    job.boot++;
    const { errors, end } = await job.run({ isSameBoot: false });
    expect(end).toMatchObject({ kind: "result", result: { outcome: "failed" } });
    expect(errors).toHaveLength(2);
    for (const error of errors) expect(error).toContain("changed or appeared while it was moved, and was left in place");
    expect(contentsBelow(source)).toEqual([`longer than ${timed}`, sized.replace("f", "other ")].sort());
    for (let index = 0; index < files; index++) expect(readFileSync(join(destination, `f${index}`), "utf8")).toBe(`first ${index}`);
  },
  60_000,
);

testUnless(
  lacking,
  "a name whose other name is gone is taken for what was copied in the very state that this left it in",
  async () => {
    await using other: TestFilesystem = await mountFilesystem("tmpfs");
    const [source, destination] = [join(directory.path, "source"), join(other.path, "destination")];
    mkdirSync(source);
    for (let pair = 0; pair < 10; pair++) {
      writeFileSync(join(source, `${pair}-one`), `first ${pair}`);
      linkSync(join(source, `${pair}-one`), join(source, `${pair}-two`));
    }
    const request = { operation: "move", sources: [source], destination, options: { target: "exact" } };
    using job = new ResumableJob(directory.path, request);
    expect((await job.run(killedAt("unlinkat", 8))).end.kind).toBe("failed");
    const left = readdirSync(source);
    const lone = left.filter((name) => !left.some((each) => each !== name && each.startsWith(name.slice(0, 2))));
    expect(lone.length).toBeGreaterThan(0);
    // As long, and with the same time: only the time of its change tells.
    const path = join(source, lone[0] ?? "");
    await runChecked(["cp", "-a", path, join(directory.path, "stamp")]);
    writeFileSync(path, "other !");
    await runChecked(["touch", "-r", join(directory.path, "stamp"), path]);
    const { errors } = await job.run();
    expect(errors).toEqual([`'${path}' changed or appeared while it was moved, and was left in place`]);
    expect(contentsBelow(source)).toEqual(["other !"]);
    expect(readFileSync(join(destination, lone[0] ?? ""), "utf8")).toStartWith("first ");
  },
  60_000,
);

testUnless(
  lacking,
  "a name whose other name was just removed when the worker was killed is moved all the same",
  async () => {
    await using other: TestFilesystem = await mountFilesystem("tmpfs");
    const [source, destination] = [join(directory.path, "source"), join(other.path, "destination")];
    mkdirSync(source);
    writeFileSync(join(source, "one"), "first");
    linkSync(join(source, "one"), join(source, "two"));
    const request = { operation: "move", sources: [source], destination, options: { target: "exact" } };
    using job = new ResumableJob(directory.path, request);
    const late = ["-e", "trace=unlinkat", "-e", "inject=unlinkat:delay_exit=3000000"];
    let isKilled = false;
    const { end } = await job.run({
      under: ["strace", "-f", "-qq", "-o", "/dev/null", ...late],
      lanes: 1,
      killWhen: ({ pid }) => {
        if (isKilled || readdirSync(source).length === 2) return false;
        isKilled = true;
        // The worker itself: strace would let it go on.
        for (const worker of childrenOf(pid)) process.kill(worker, "SIGKILL");
        return false;
      },
    });
    expect([end.kind, readdirSync(source).length]).toEqual(["failed", 1]);
    const { errors } = await job.run();
    expect([errors, existsSync(source), contentsBelow(destination)]).toEqual([[], false, ["first", "first"]]);
  },
  60_000,
);

function namesBelow(at: string): string[] {
  return existsSync(at) ? readdirSync(at).sort() : [];
}

test("an argument that was renamed does not give way to what has its old name now", async () => {
  const [from, to] = [join(directory.path, "from"), join(directory.path, "to")];
  makeSource(from);
  mkdirSync(to);
  const names = Array.from({ length: files }, (_, index) => `f${index}`);
  const sources = names.map((name) => join(from, name));
  using job = new ResumableJob(directory.path, { operation: "move", sources, destination: to, options: { onConflict: "overwrite" } });
  const first = await job.run(killedAt("renameat2", 10));
  expect(first.end.kind).toBe("failed");
  const [name = ""] = names.filter((each) => !existsSync(join(from, each)));
  writeFileSync(join(from, name), "second");
  const { errors } = await job.run();
  expect(errors).toHaveLength(1);
  expect(errors[0]).toContain(`/${name}' changed or appeared while it was moved`);
  expect(readdirSync(from)).toEqual([name]);
  expect(contentsBelow(to)).toEqual(names.map((_, index) => `first ${index}`).sort());
}, 60_000);
