// A filesystem mounted inside the source: crossed as cp does, left out with -x, taken along or emptied by a move, and whole after kills.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expectSameTree } from "../support/compare.ts";
import { startJob } from "../support/embedded-job.ts";
import { mountFaultyFilesystem, whyNoFaultyFilesystem } from "../support/faulty-filesystem.ts";
import { mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, run, runChecked } from "../support/process.ts";
import { ResumableJob } from "../support/resumable-job.ts";
import { describeUnless, firstReason, testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const mebibyte = 1024 * 1024;
const preserved = { preserve: ["mode", "times", "owner", "xattr", "hardlinks", "links"], symlinks: "copy", reflink: "never" };

describeUnless(
  firstReason(whyNoFilesystem("ext4"), havePrograms("rsync") ? null : "rsync is not installed"),
  "a mount in the source",
  () => {
    let home: TemporaryDirectory;
    let inner: TestFilesystem;
    let elsewhere: TemporaryDirectory;
    let tree: string;
    let point: string;
    const attach = (): Promise<unknown> => runChecked(["mount", "--bind", inner.path, point]);

    beforeEach(async () => {
      home = await temporaryDirectory();
      inner = await mountFilesystem("ext4");
      elsewhere = await temporaryDirectory("/dev/shm");
      writeFileSync(join(elsewhere.path, "file"), "mounted alone");
      tree = join(home.path, "tree");
      point = join(tree, "d3", "mounted");
      for (let index = 0; index < 8; index++) {
        mkdirSync(join(tree, `d${index}`), { recursive: true });
        writeFileSync(join(tree, `d${index}`, "outside"), `outside ${index}`);
      }
      mkdirSync(point);
      // Under the mount there is something that nobody sees.
      writeFileSync(join(point, "hidden"), "under the mount");
      for (let index = 0; index < 60; index++) {
        mkdirSync(join(inner.path, `e${index % 6}`), { recursive: true });
        writeFileSync(join(inner.path, `e${index % 6}`, `inside ${index}`), `inside ${index} `.repeat(500));
      }
      await attach();
      // One file is a mount as well, of another filesystem: no directory, so cp takes it with -x too.
      await runChecked(["mount", "--bind", join(elsewhere.path, "file"), join(tree, "d5", "outside")]);
    });
    afterEach(async () => {
      for (const path of [join(tree, "d5", "outside"), point]) await run(["umount", "--lazy", path]);
      for (const each of [inner, elsewhere]) await each[Symbol.asyncDispose]();
      await home[Symbol.asyncDispose]();
    });

    for (const [what, oneFileSystem, flags] of [
      ["is copied with all that is in it, as cp does", false, "-a"],
      ["is an empty directory in the copy with -x, as cp makes it", true, "-ax"],
    ] as const) {
      test(what, async () => {
        const [ours, theirs] = [join(home.path, "ours"), join(home.path, "theirs")];
        await runChecked(["cp", flags, tree, theirs]);
        const ended = await startJob([tree], ours, { target: "exact", oneFileSystem, ...preserved }).ended;
        expect([ended.state, ended.errorCount]).toEqual(["completed", 0]);
        await expectSameTree(theirs, ours);
        expect(readdirSync(join(ours, "d3", "mounted")).length).toBe(oneFileSystem ? 0 : 6);
      });
    }

    test("goes along when its directory is renamed within one filesystem", async () => {
      const target = join(home.path, "moved");
      const ended = await startJob([tree], target, { target: "exact" }, "move").ended;
      expect([ended.state, ended.errorCount, existsSync(tree)]).toEqual(["completed", 0, false]);
      expect(readFileSync(join(target, "d3", "mounted", "e1", "inside 1"), "utf8")).toStartWith("inside 1 ");
      expect((await run(["mountpoint", "-q", join(target, "d3", "mounted")])).status).toBe(0);
      tree = target;
      point = join(target, "d3", "mounted");
    });

    test("is emptied by a move to another filesystem, and the directory that it stands on stays, and is told", async () => {
      await using other = await mountFilesystem("tmpfs");
      const whole = join(home.path, "whole");
      await runChecked(["cp", "-a", tree, whole]);
      const job = startJob([tree], join(other.path, "moved"), { target: "exact", ...preserved }, "move");
      expect((await job.ended).state).toBe("failed");
      await expectSameTree(whole, join(other.path, "moved"));
      expect(job.errors.map(({ path, code }) => `${code} ${path}`).sort()).toEqual(
        [point, join(tree, "d5", "outside")].map((path) => `source-mounted ${path}`).sort(),
      );
      expect([readdirSync(point), readdirSync(tree).sort()]).toEqual([[], ["d3", "d5"]]);
      await run(["umount", point]);
      expect(readFileSync(join(point, "hidden"), "utf8")).toBe("under the mount");
    });

    test("left out of a move with -x, keeps all that is in it, and nobody says that it has changed", async () => {
      await using other = await mountFilesystem("tmpfs");
      const before = join(home.path, "before");
      await runChecked(["cp", "-a", inner.path, before]);
      const job = startJob([tree], join(other.path, "moved"), { target: "exact", oneFileSystem: true, ...preserved }, "move");
      await job.ended;
      await expectSameTree(before, inner.path);
      // A file that is a mount is copied, and cannot be removed.
      expect(job.errors.map(({ path, code }) => `${code} ${path}`)).toEqual([`source-mounted ${join(tree, "d5", "outside")}`]);
      expect(readdirSync(join(other.path, "moved", "d3", "mounted"))).toEqual([]);
      expect(existsSync(join(tree, "d0"))).toBe(false);
    });

    test("is gone on with after a kill, also where it was mounted anew meanwhile", async () => {
      const copy = join(home.path, "copy");
      for (const again of ["stays", "mounted anew"] as const) {
        await run(["rm", "-rf", copy]);
        const records = join(home.path, again);
        mkdirSync(records);
        using job = new ResumableJob(records, {
          operation: "copy",
          sources: [tree],
          destination: copy,
          options: { target: "exact", recursive: true, onConflict: "rename", bandwidthLimit: mebibyte / 2, ...preserved },
        });
        const inside = (): number =>
          existsSync(join(copy, "d3", "mounted")) ? readdirSync(join(copy, "d3", "mounted"), { recursive: true }).length : 0;
        await job.run({ killWhen: () => inside() > 20, lanes: 1 });
        expect(inside()).toBeLessThan(66);
        if (again === "mounted anew") {
          await runChecked(["umount", point]);
          await inner.remount();
          await attach();
        }
        const { end, errors } = await job.run();
        expect([end.kind, errors]).toEqual(["result", []]);
        await expectSameTree(tree, copy);
      }
    }, 60_000);

    test("unmounted in the middle of a move, is left as it is, and so is what lay under it", async () => {
      await using other = await mountFilesystem("tmpfs");
      const before = join(home.path, "before");
      await runChecked(["cp", "-a", inner.path, before]);
      await run(["umount", join(tree, "d5", "outside")]);
      for (let index = 0; index < 8; index++) writeFileSync(join(tree, `d${index}`, "large"), Buffer.alloc(mebibyte, "x"));
      const moved = join(other.path, "moved");
      const job = startJob([tree], moved, { target: "exact", bandwidthLimit: 4 * mebibyte, ...preserved }, "move");
      while (!existsSync(join(moved, "d3", "mounted", "e5")) && job.jobs.get(0, job.submitted.token)?.result === null) await Bun.sleep(5);
      await runChecked(["umount", "--lazy", point]);
      const ended = await job.ended;
      expect(ended.state).toBe("failed");
      expect(job.errors.map(({ code }) => code as string)).toContain("source-changed");
      expect(readFileSync(join(point, "hidden"), "utf8")).toBe("under the mount");
      await expectSameTree(before, inner.path);
    }, 30_000);
  },
);

testUnless(
  whyNoFaultyFilesystem(),
  "a mount in the source that dies in the middle of a move costs nothing: what was not copied whole stays",
  async () => {
    await using home = await temporaryDirectory();
    await using other = await mountFilesystem("tmpfs");
    const [tree, below] = [join(home.path, "tree"), join(home.path, "below")];
    for (const path of [join(tree, "mounted"), below]) mkdirSync(path, { recursive: true });
    for (let index = 0; index < 40; index++) writeFileSync(join(below, `${index}`), `content ${index}`.repeat(2000));
    writeFileSync(join(tree, "outside"), "outside");
    await using dying = await mountFaultyFilesystem({ directory: below, directIo: true, cacheMs: 0 });
    await runChecked(["mount", "--bind", dying.path, join(tree, "mounted")]);
    try {
      await dying.setRules([{ operations: "all", errno: "ENOTCONN", after: 100 }]);
      const moved = join(other.path, "moved");
      const job = startJob([tree], moved, { target: "exact", onLost: "fail", reflink: "never" }, "move");
      expect((await job.ended).state).toBe("failed");
      await dying.setRules([]);
      for (let index = 0; index < 40; index++) {
        const copies = [join(below, `${index}`), join(moved, "mounted", `${index}`)].filter((path) => existsSync(path));
        expect(copies.length).toBeGreaterThan(0);
        for (const path of copies) expect(readFileSync(path, "utf8")).toBe(`content ${index}`.repeat(2000));
      }
      expect(readdirSync(join(moved, "mounted")).length).toBeLessThan(40);
      expect(readdirSync(below)).toHaveLength(40);
    } finally {
      await run(["umount", "--lazy", join(tree, "mounted")]);
    }
  },
  30_000,
);
