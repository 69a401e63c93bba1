// A dry run tells what the copy then does, and does nothing itself.

import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { linkSync, lstatSync, mkdirSync, readdirSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ByteString, byteStringFromText, displayText } from "../../src/bytes.ts";
import type { CopyError } from "../../src/errors.ts";
import type { Preview } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import { embeddedJobLimits } from "../../src/jobs/limits.ts";
import { Previews } from "../../src/jobs/previews.ts";
import { runSettings } from "../../src/jobs/run-settings.ts";
import { WorkerPlaces } from "../../src/jobs/worker-places.ts";
import { requestSchema } from "../../src/request-schema.ts";
import type { PlannedOperation } from "../../src/worker/protocol.ts";
import { startJob } from "../support/embedded-job.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const self = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0, groups: process.getgroups?.() ?? [] };

interface Looked extends Preview {
  readonly operations: PlannedOperation[];
  /** "create sub/a" by destination below the test's directory. */
  readonly told: string[];
}

describe("a dry run", () => {
  let temporary: TemporaryDirectory;
  let root: string;
  beforeEach(async () => {
    temporary = await temporaryDirectory();
    root = temporary.path;
    mkdirSync(join(root, "src/sub/deep"), { recursive: true });
    mkdirSync(join(root, "dst"));
    for (const name of ["a", "b.txt", "sub/c", "sub/deep/d"]) writeFileSync(join(root, "src", name), name);
    linkSync(join(root, "src/a"), join(root, "src/sub/a-again"));
    symlinkSync("a", join(root, "src/link"));
  });
  afterEach(() => temporary[Symbol.asyncDispose]());

  const at = (name: string): ByteString => byteStringFromText(join(root, name));
  const requestOf = (sources: readonly string[], destination: string, options: Record<string, unknown> = {}) =>
    requestSchema.parse({ operation: "copy", sources: sources.map(at), destination: at(destination), options });
  const look = async (
    sources: readonly string[],
    destination: string,
    options: Record<string, unknown> = {},
    limits = { maxOperations: 10_000, maxBytes: 1e9 },
  ): Promise<Looked> => {
    const jobs = createJobs({ mode: "embedded", sandbox: "if-available" });
    const operations: PlannedOperation[] = [];
    const { signal } = new AbortController();
    const onOperations = (more: readonly PlannedOperation[]): void => void operations.push(...more);
    try {
      const preview = await jobs.preview(self, requestOf(sources, destination, options), { ...limits, signal, onOperations });
      const told = operations.map((operation) => `${operation.action} ${displayText(operation.destination).slice(root.length + 1)}`);
      return { ...preview, operations, told: told.sort() };
    } finally {
      await jobs.shutdown();
    }
  };
  const state = (): string[] =>
    readdirSync(root, { recursive: true, withFileTypes: true })
      .map((entry) => {
        const path = join(entry.parentPath, entry.name);
        const { ino, mode, size, mtimeMs, ctimeMs } = lstatSync(path);
        return `${path} ${ino} ${mode} ${size} ${mtimeMs} ${ctimeMs}`;
      })
      .sort();

  test("lists every entry, counts bytes once for a file with two names, and changes nothing", async () => {
    const before = state();
    const { told, summary, operations } = await look(["src"], "dst");
    expect(state()).toEqual(before);
    const names = ["", "/a", "/b.txt", "/link", "/sub", "/sub/a-again", "/sub/c", "/sub/deep", "/sub/deep/d"];
    expect(told).toEqual(names.map((name) => `create dst/src${name}`));
    expect(summary).toMatchObject({ files: 6, directories: 3, bytes: 1 + 5 + 5 + 10, conflicts: 0, isWhole: true, listed: 9 });
    expect(operations.filter(({ isHardLink }) => isHardLink)).toHaveLength(1);
    expect(summary.spaceFree).toBeGreaterThan(0);
    expect(summary.spaceNeeded).toBe(summary.bytes);
  });

  const policies: [string, string[]][] = [
    ["fail", ["create dst/new", "fail dst/other", "fail dst/same"]],
    ["skip", ["create dst/new", "skip dst/other", "skip dst/same"]],
    ["overwrite", ["create dst/new", "overwrite dst/other", "overwrite dst/same"]],
    ["newer", ["create dst/new", "overwrite dst/other", "skip dst/same"]],
    ["differs", ["create dst/new", "overwrite dst/other", "skip dst/same"]],
    ["rename", ["create dst/new", "rename dst/other (2)", "rename dst/same (2)"]],
    ["ask", ["ask dst/other", "ask dst/same", "create dst/new"]],
  ];
  for (const [onConflict, expected] of policies) {
    test(`foresees on-conflict=${onConflict}, and what the copy then does is that`, async () => {
      mkdirSync(join(root, "from"));
      for (const name of ["new", "same", "other"]) writeFileSync(join(root, "from", name), name);
      writeFileSync(join(root, "dst/same"), "same");
      writeFileSync(join(root, "dst/other"), "something else");
      for (const path of ["from/same", "dst/same", "dst/other"]) utimesSync(join(root, path), 1000, 1000);
      utimesSync(join(root, "from/other"), 2000, 2000);
      const sources = ["from/new", "from/same", "from/other"];
      const { told, summary } = await look(sources, "dst", { onConflict });
      expect(told).toEqual(expected);
      expect(summary.conflicts).toBe(2);
      if (onConflict === "ask") return;
      const job = startJob(
        sources.map((name) => join(root, name)),
        join(root, "dst"),
        { onConflict },
      );
      const ended = await job.ended;
      await job.jobs.shutdown();
      const { counts } = summary;
      expect(ended.filesDone).toBe(counts.create + counts.overwrite + counts.rename);
      expect(ended.filesSkipped).toBe(counts.skip);
      expect(ended.errorCount).toBe(counts.fail);
    });
  }

  test("an existing directory is merged, and what stands in its files' way is told", async () => {
    mkdirSync(join(root, "dst/src/sub"), { recursive: true });
    writeFileSync(join(root, "dst/src/sub/c"), "older");
    writeFileSync(join(root, "dst/src/sub/deep"), "no directory");
    const { told, operations, summary } = await look(["src"], "dst", { onConflict: "overwrite" });
    expect(told).toContain("merge dst/src");
    expect(told).toContain("overwrite dst/src/sub/c");
    expect(told).toContain("fail dst/src/sub/deep");
    expect(told.join("\n")).not.toContain("deep/d");
    const failed = operations.find(({ action }) => action === "fail");
    expect(failed).toMatchObject({ code: "destination-exists" });
    expect(failed?.message).toContain("cannot overwrite non-directory");
    expect(summary.conflicts).toBe(2);
  });

  test("refusals are those of the copy: itself, missing sources, a missing destination", async () => {
    const into = await look(["src"], "src/sub");
    expect(into.operations).toMatchObject([{ action: "fail", code: "into-itself" }]);
    const same = await look(["src/a"], "src/a", { onConflict: "overwrite" });
    expect(same.operations).toMatchObject([{ action: "fail", code: "same-file" }]);
    const missing = await look(["nope", "src/a"], "dst");
    expect(missing.operations).toMatchObject([{ action: "fail", code: "source-not-found" }, { action: "create" }]);
    const nowhere = await look(["src/a", "src/b.txt"], "no/where");
    expect(nowhere.operations).toMatchObject([{ action: "fail", code: "destination-not-found" }]);
  });

  test("patterns, new names and size limits are applied", async () => {
    const { told } = await look(["src"], "dst", { include: ["*.txt", "c"], renameMatch: "^b", renameReplace: "B" });
    expect(told.filter((line) => !line.startsWith("skip"))).toEqual([
      "create dst/src",
      "create dst/src/B.txt",
      "create dst/src/sub",
      "create dst/src/sub/c",
      "create dst/src/sub/deep",
    ]);
    truncateSync(join(root, "src/b.txt"), 5000);
    expect((await look(["src"], "dst", { maxFileSize: 4999 })).told).toContain("skip dst/src/b.txt");
  });

  test("beyond the limit, operations are counted and not listed", async () => {
    mkdirSync(join(root, "many"));
    for (let index = 0; index < 700; index++) writeFileSync(join(root, "many", String(index)), "x");
    const { operations, summary } = await look(["many"], "dst", {}, { maxOperations: 300, maxBytes: 1e9 });
    expect(operations).toHaveLength(300);
    expect(summary).toMatchObject({ files: 700, directories: 1, listed: 300 });
    const few = await look(["many"], "dst", {}, { maxOperations: 300, maxBytes: 1000 });
    expect(few.operations.length).toBeGreaterThan(2);
    expect(few.operations.length).toBeLessThan(20);
    expect(few.summary.files).toBe(700);
  });

  test("followed links that lead in a circle end", async () => {
    symlinkSync("..", join(root, "src/sub/up"));
    const { operations } = await look(["src"], "dst", { symlinks: "follow" });
    expect(operations.filter(({ action }) => action === "fail")).toMatchObject([{ code: "symlink-loop" }]);
  });

  test("what cannot be foreseen is refused", async () => {
    expect(look(["src"], "dst", { gnu: { parents: true } })).rejects.toMatchObject({ code: "not-supported" });
    const jobs = createJobs({ mode: "embedded" });
    const options = { maxOperations: 1, maxBytes: 1, signal: new AbortController().signal, onOperations: () => undefined };
    expect(jobs.preview(self, { ...requestOf(["src"], "dst"), operation: "move" }, options)).rejects.toMatchObject({
      code: "not-supported",
    });
    await jobs.shutdown();
  });

  test("it ends when nobody wants it any more, and so many at once are the limit", async () => {
    const jobs = createJobs({ mode: "embedded", limits: { maxPreviewsPerUser: 2 } });
    const controller = new AbortController();
    const options = { maxOperations: 1, maxBytes: 1000, signal: controller.signal, onOperations: () => undefined };
    const request = requestOf(["src"], "dst");
    const first = [jobs.preview(self, request, options), jobs.preview(self, request, options)];
    const settled = Promise.allSettled(first);
    expect(jobs.preview(self, request, options)).rejects.toMatchObject({ code: "limits-exceeded" });
    controller.abort();
    expect((await settled).map((result) => result.status === "rejected" && (result.reason as { code: string }).code)).toEqual([
      "cancelled",
      "cancelled",
    ]);
    const { summary } = await jobs.preview(self, request, { ...options, signal: new AbortController().signal });
    expect(summary.files).toBe(6);
    await jobs.shutdown();
  });

  test("of a user whose workers have taken much, while others are there, those beside the first wait, and end at once when told to", async () => {
    const places = new WorkerPlaces(null, "many", undefined, 1);
    const other = self.uid + 1;
    const tire = (): void => {
      places.see(other);
      places.enter(self.uid).left(10_000);
    };
    const limits = { ...embeddedJobLimits, maxPreviews: 8, maxPreviewsPerUser: 8 };
    const previews = new Previews({ ...runSettings({ mode: "embedded" }, limits), places }, limits, null);
    const ask = async (signal = new AbortController().signal): Promise<number> => {
      const startMs = performance.now();
      const options = { maxOperations: 1, maxBytes: 1000, signal, onOperations: () => undefined };
      const { summary } = await previews.run(self, requestOf(["src"], "dst"), options);
      expect(summary.files).toBe(6);
      return performance.now() - startMs;
    };
    const restMs = 2_000;
    expect(Math.max(...(await Promise.all([ask(), ask()])))).toBeLessThan(restMs);
    tire();
    const presence = setInterval(() => places.see(other), 200);
    const [first, second, third] = await Promise.all([ask(), ask(), ask()]).finally(() => clearInterval(presence));
    expect(first).toBeLessThan(restMs);
    expect(second).toBeGreaterThan(restMs * 0.9);
    // Not in the same moment: the second has taken its part by then.
    expect(third).toBeGreaterThan((second ?? 0) + restMs * 0.4);
    tire();
    expect(await ask()).toBeLessThan(restMs);
    tire();
    const controller = new AbortController();
    const running = ask();
    const waiting = ask(controller.signal).catch((error: CopyError) => error.code);
    const stopped = ask().catch((error: CopyError) => error.code);
    controller.abort();
    expect(await waiting).toBe("cancelled");
    expect(await running).toBeLessThan(restMs);
    const entered = spyOn(places, "enter");
    await previews.stop();
    expect(await stopped).toBe("cancelled");
    await Bun.sleep(restMs);
    expect(entered).not.toHaveBeenCalled();
  }, 20_000);
});
