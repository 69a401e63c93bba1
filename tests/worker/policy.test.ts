// The policy holds whatever way leads to a path: links, "..", bind mounts, hard links, moves; and the rest is copied.

import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { byteStringFromText, displayText } from "../../src/bytes.ts";
import type { Caller, JobView } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import type { Policy, PolicyRules } from "../../src/policy.ts";
import type { JobRequest } from "../../src/request.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { PolicyGuard } from "../../src/worker/policy-guard.ts";
import type { EntryError, PlannedOperation } from "../../src/worker/protocol.ts";
import { untilEnded } from "../support/jobs.ts";
import { runChecked } from "../support/process.ts";
import { testUnless, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const self: Caller = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0, groups: process.getgroups?.() ?? [] };
let temporary: TemporaryDirectory;
let at: (...names: string[]) => string;

beforeEach(async () => {
  temporary = await temporaryDirectory();
  at = (...names) => join(temporary.path, ...names);
  mkdirSync(at("data/secret/deep"), { recursive: true });
  mkdirSync(at("data/secrets"), { recursive: true });
  mkdirSync(at("out"));
  writeFileSync(at("data/secret/file"), "secret");
  writeFileSync(at("data/secret/deep/file"), "secret");
  writeFileSync(at("data/secrets/file"), "public");
  writeFileSync(at("data/public"), "public");
});
afterEach(() => temporary[Symbol.asyncDispose]());

interface Outcome {
  readonly job: JobView;
  readonly errors: readonly EntryError[];
}

interface Changes {
  readonly operation?: "copy" | "move";
  readonly options?: object;
}

function policyOf(rules: Partial<PolicyRules>): Policy {
  const none = { allowSources: [], denySources: [], allowDestinations: [], denyDestinations: [], allowExtensions: [], denyExtensions: [] };
  return [{ group: "", maxFileSize: 0, ...none, ...rules }];
}

function requestOf(sources: readonly string[], destination: string, { operation = "copy", options }: Changes): JobRequest {
  return requestSchema.parse({
    operation,
    sources: sources.map(byteStringFromText),
    destination: byteStringFromText(destination),
    options: { durability: "none", ...options },
  });
}

async function run(rules: Partial<PolicyRules>, sources: readonly string[], destination: string, changes: Changes = {}): Promise<Outcome> {
  const jobs = createJobs({ mode: "session", policyFor: () => policyOf(rules) });
  const errors: EntryError[] = [];
  jobs.on("errors", (_, more) => errors.push(...more));
  try {
    return { job: await untilEnded(jobs, jobs.submit(self, null, requestOf(sources, destination, changes))), errors };
  } finally {
    await jobs.shutdown();
  }
}

const paths = (...texts: string[]) => texts.map(byteStringFromText);
const refused = ({ errors }: Outcome): string[] =>
  errors.map(({ path, code }) => {
    expect(code).toBe("policy-denied");
    return path.slice(temporary.path.length);
  });
/** All names below a directory. */
const below = (directory: string): string[] => readdirSync(directory, { recursive: true }).map(String).sort();

test("a denied directory in a tree is one error, and the rest is copied, names that only begin alike included", async () => {
  const outcome = await run({ denySources: paths(at("data/secret")) }, [at("data")], at("out"));
  expect(refused(outcome)).toEqual(["/data/secret"]);
  expect(outcome.job.result).toMatchObject({ state: "failed" });
  expect(outcome.errors[0]?.message).toContain("is not allowed by the policy of this machine: deny-sources");
  expect(below(at("out"))).toEqual(["data", "data/public", "data/secrets", "data/secrets/file"]);
});

test("what leads to a denied path by a link or .. is refused where it leads", async () => {
  symlinkSync(at("data/secret/deep"), at("link"));
  const rules = { denySources: paths(at("data/secret")) };
  expect(refused(await run(rules, [`${at("link")}/file`], at("out")))).toEqual(["/link/file"]);
  expect(refused(await run(rules, [`${at("link")}/../file`], at("out")))).toEqual(["/link/../file"]);
  // Followed below an argument.
  mkdirSync(at("tree"));
  symlinkSync(at("data/secret/file"), at("tree/one"));
  symlinkSync(at("data/secret/deep"), at("tree/two"));
  symlinkSync(at("data/public"), at("tree/three"));
  const followed = await run(rules, [at("tree")], at("out"), { options: { symlinks: "follow" } });
  expect(refused(followed).sort()).toEqual(["/tree/one", "/tree/two"]);
  expect(below(at("out"))).toEqual(["tree", "tree/three"]);
});

test("a settings' path that is a link itself means what it leads to", async () => {
  symlinkSync(at("data"), at("alias"));
  const rules = { denySources: paths(at("alias/secret")) };
  expect(refused(await run(rules, [at("data")], at("out")))).toEqual(["/data/secret"]);
  expect(existsSync(at("out/data/public"))).toBe(true);
});

testUnless(unlessRoot(), "a bind mount of the directory above, or of the path itself, is no way around", async () => {
  mkdirSync(at("mount"));
  await runChecked(["mount", "--bind", at("data"), at("mount")]);
  try {
    const rules = { denySources: paths(at("data/secret")) };
    expect(refused(await run(rules, [at("mount/secret/deep/file")], at("out")))).toEqual(["/mount/secret/deep/file"]);
    expect(refused(await run(rules, [at("mount")], at("out")))).toEqual(["/mount/secret"]);
  } finally {
    await runChecked(["umount", at("mount")]);
  }
});

testUnless(unlessRoot(), "a mount of something inside a denied directory shows nothing of it, and takes nothing for it", async () => {
  mkdirSync(at("tree/shown"), { recursive: true });
  mkdirSync(at("plain"));
  writeFileSync(at("tree/file"), "");
  writeFileSync(at("tree/other"), "public");
  const mounts = [
    ["data/secret/deep", "tree/shown"],
    ["data/secret/file", "tree/file"],
    // One that is hidden by another is nobody's to deny.
    ["data/secret/deep", "plain"],
    ["data/secrets", "plain"],
  ] as const;
  for (const [from, to] of mounts) await runChecked(["mount", "--bind", at(from), at(to)]);
  symlinkSync(at("data"), at("alias"));
  try {
    const rules = { denySources: paths(at("alias/secret")) };
    expect(refused(await run(rules, [at("tree")], at("out"))).sort()).toEqual(["/tree/file", "/tree/shown"]);
    expect(below(at("out/tree"))).toEqual(["other"]);
    expect(await foreseen(rules, [at("tree")], at("out/new"))).toEqual(["/tree/file", "/tree/shown"]);
    expect(refused(await run(rules, [at("tree/shown/file")], at("out")).catch(explain))).toEqual(["/tree/shown/file"]);
    expect(refused(await run(rules, [at("plain")], at("out")))).toEqual([]);
    const closed = { denyDestinations: paths(at("data/secret")) };
    expect(refused(await run(closed, [at("data/public")], at("tree/shown")))).toEqual(["/tree/shown/public"]);
    // Merged into.
    mkdirSync(at("more/tree/shown"), { recursive: true });
    writeFileSync(at("more/tree/shown/new"), "new");
    expect(refused(await run(closed, [at("more/tree")], temporary.path))).toEqual(["/tree/shown"]);
    expect(below(at("data/secret"))).toEqual(["deep", "deep/file", "file"]);
  } finally {
    for (const [, to] of mounts.toReversed()) await runChecked(["umount", at(to)]);
  }
});

test("a denied file is refused by its inode, under another name too, and by its name after it was replaced", async () => {
  linkSync(at("data/secret/file"), at("data/second-name"));
  const rules = { denySources: paths(at("data/secret/file"), at("data/later")) };
  expect(refused(await run(rules, [at("data")], at("out"))).sort()).toEqual(["/data/second-name", "/data/secret/file"]);
  expect(existsSync(at("out/data/secret/deep/file"))).toBe(true);
  expect(existsSync(at("out/data/secret/file"))).toBe(false);
  // Not there when the job began to look, as a file that an editor is replacing.
  renameSync(at("data/second-name"), at("data/secret/file"));
  writeFileSync(at("data/later"), "secret");
  expect(
    refused(await run({ denySources: paths(at("data/later")) }, [at("data/later"), at("data/public")], at("out")).catch(explain)),
  ).toEqual(["refused"]);
});

/** The call itself was refused. */
function explain(error: unknown): Outcome {
  expect(error).toMatchObject({ code: "policy-denied" });
  const told = { path: `${temporary.path}refused`, code: "policy-denied" } as unknown as EntryError;
  return { job: {} as JobView, errors: [told] };
}

test("only what is allowed is a source, also where a link leads out of it", async () => {
  const rules = { allowSources: paths(at("data/secrets")) };
  expect((await run(rules, [at("data/secrets")], at("out"))).job.result?.state).toBe("completed");
  expect(refused(await run(rules, [at("data")], at("out")).catch(explain))).toEqual(["refused"]);
  symlinkSync(at("data/public"), at("data/secrets/out"));
  const followed = await run(rules, [at("data/secrets")], at("out/second"), { options: { symlinks: "follow" } });
  expect(refused(followed)).toEqual(["/data/secrets/out"]);
});

test("nothing is written at or below a denied destination, whatever way leads there", async () => {
  mkdirSync(at("kept/inner"), { recursive: true });
  writeFileSync(at("kept/file"), "kept");
  symlinkSync(at("kept/inner"), at("way"));
  linkSync(at("kept/file"), at("out/hard-link"));
  mkdirSync(at("tree/kept"), { recursive: true });
  writeFileSync(at("tree/kept/new"), "new");
  writeFileSync(at("tree/other"), "new");
  const rules = { denyDestinations: paths(at("kept"), at("kept/file")) };
  expect(refused(await run(rules, [at("data/public")], at("way")))).toEqual(["/way/public"]);
  expect(refused(await run(rules, [at("data/public")], `${at("way")}/../new`))).toEqual(["/way/../new"]);
  // Merged into what holds it.
  expect(refused(await run(rules, [at("tree/kept"), at("tree/other")], temporary.path, { options: { onConflict: "overwrite" } }))).toEqual([
    "/kept",
  ]);
  expect(existsSync(at("other"))).toBe(true);
  // Written into in place, by another name of the same file.
  // (Where links are kept, cp gives the name a file of its own.)
  const inPlace = { options: { onConflict: "overwrite", preserve: ["mode"], gnu: { inPlace: true } } };
  expect(refused(await run(rules, [at("data/public")], at("out/hard-link"), inPlace))).toEqual(["/out/hard-link"]);
  // A link to nothing is not written through, though cp was asked to: where it leads would be known too late.
  symlinkSync(at("kept/made"), at("out/dangling"));
  const through = { options: { onConflict: "overwrite", gnu: { inPlace: true, followDanglingDestination: true } } };
  expect((await run(rules, [at("data/public")], at("out/dangling"), through)).errors.map(({ code }) => code)).toEqual(["dangling-symlink"]);
  expect(below(at("kept"))).toEqual(["file", "inner"]);
  expect(readFileSync(at("kept/file"), "utf8")).toBe("kept");
});

test("what has no path that can be known is not allowed", () => {
  const guard = new PolicyGuard(policyOf({ denySources: paths(at("data/secret")) }));
  const fd = openSync("/proc/self/ns/mnt", "r");
  expect(guard.brokenByPlace(fd, "source")).toBe("its path cannot be known");
  closeSync(fd);
  const known = openSync(at("data/public"), "r");
  expect(guard.brokenByPlace(known, "source")).toBeNull();
  closeSync(known);
});

/** What a dry run says would fail, as `refused` has it, and that it says so of nothing else. */
async function foreseen(
  rules: Partial<PolicyRules>,
  sources: readonly string[],
  destination: string,
  options: object = {},
): Promise<string[]> {
  const jobs = createJobs({ mode: "session", policyFor: () => policyOf(rules) });
  const told: PlannedOperation[] = [];
  const { signal } = new AbortController();
  const onOperations = (more: readonly PlannedOperation[]): void => void told.push(...more);
  try {
    const before = below(temporary.path);
    await jobs.preview(self, requestOf(sources, destination, { options }), { maxOperations: 1000, maxBytes: 1e6, signal, onOperations });
    expect(below(temporary.path)).toEqual(before);
  } finally {
    await jobs.shutdown();
  }
  return told
    .filter(({ action }) => action === "fail")
    .map(({ code, message, source, destination: to }) => {
      expect([code, message]).toEqual(["policy-denied", expect.stringContaining("is not allowed by the policy of this machine")]);
      return (message.includes(displayText(source)) ? source : to).slice(temporary.path.length);
    })
    .sort();
}

test("a dry run tells what the job would be refused, and nothing more", async () => {
  mkdirSync(at("data/film"));
  mkdirSync(at("data/keep/inner"), { recursive: true });
  mkdirSync(at("out/old/data/kept"), { recursive: true });
  for (const name of ["data/film/a.mkv", "data/keep/inner/x", "data/keep/y", "data/replaced"]) writeFileSync(at(name), "x");
  linkSync(at("data/secret/file"), at("data/second-name"));
  symlinkSync(at("data/secret/deep"), at("data/link"));
  writeFileSync(at("out/file"), "kept");
  linkSync(at("out/file"), at("out/hard-link"));
  const inPlace = { onConflict: "overwrite", preserve: ["mode"], gnu: { inPlace: true } };
  const cases: [rules: Partial<PolicyRules>, sources: string[], destination: string, options: object, count: number][] = [
    [{ denySources: paths(at("data/secret")) }, [at("data")], at("out"), {}, 1],
    [{ denySources: paths(at("data/secret/file"), at("data/keep/inner")) }, [at("data")], at("out"), {}, 3],
    [{ denySources: paths(at("data/secret")) }, [at("data")], at("out"), { symlinks: "follow" }, 2],
    [{ denySources: paths(at("data/secret")) }, [`${at("data/link")}/file`], at("out"), { symlinks: "follow" }, 1],
    [{ denyExtensions: ["mkv"], maxFileSize: 5 }, [at("data")], at("out"), {}, 6],
    // In directories that are not there yet.
    [{ denyDestinations: paths(at("out/data/keep/inner"), at("out/data/keep/y")) }, [at("data")], at("out"), {}, 2],
    [{ denyDestinations: paths(at("out/new/film/a.mkv")) }, [at("data")], at("out/new"), {}, 1],
    // And in those that are.
    [{ denyDestinations: paths(at("out/old/data/keep")) }, [at("data")], at("out/old"), {}, 1],
    [{ denyDestinations: paths(at("out/file")) }, [at("data/public")], at("out/hard-link"), inPlace, 1],
    [{ denySources: paths(at("elsewhere")) }, [at("data")], at("out"), {}, 0],
  ];
  for (const [index, [rules, sources, destination, options, count]] of cases.entries()) {
    const told = await foreseen(rules, sources, destination, options);
    const done = refused(await run(rules, sources, destination, { options })).sort();
    expect({ index, told, count: told.length }).toEqual({ index, told: done, count });
    for (const name of ["out/data", "out/new", "out/old/data"]) rmSync(at(name), { recursive: true, force: true });
    for (const name of ["out/file", "out/hard-link"]) expect(readFileSync(at(name), "utf8")).toBe("kept");
    for (const name of readdirSync(at("out"))) if (!["file", "hard-link", "old"].includes(name)) rmSync(at("out", name));
    mkdirSync(at("out/old/data/kept"), { recursive: true });
  }
});

test("a denied destination that is not there yet is not made", async () => {
  mkdirSync(at("tree/later"), { recursive: true });
  writeFileSync(at("tree/later/file"), "x");
  writeFileSync(at("tree/single"), "x");
  const rules = { denyDestinations: paths(at("out/tree/later"), at("out/tree/single")) };
  expect(refused(await run(rules, [at("tree")], at("out"))).sort()).toEqual(["/out/tree/later", "/out/tree/single"]);
  expect(below(at("out"))).toEqual(["tree"]);
});

test("files are refused one by one for their extension and size, under the name they get too", async () => {
  writeFileSync(at("data/film.MKV"), "x");
  writeFileSync(at("data/large"), Buffer.alloc(5000));
  const rules = { denyExtensions: ["mkv"], maxFileSize: 4096 };
  expect(refused(await run(rules, [at("data")], at("out"))).sort()).toEqual(["/data/film.MKV", "/data/large"]);
  expect(existsSync(at("out/data/public"))).toBe(true);
  expect(refused(await run(rules, [at("data/public")], at("out/a.mkv")))).toEqual(["/data/public"]);
});

test("a move takes along nothing that is denied, and leaves it where it was", async () => {
  const rules = { denySources: paths(at("data/secret")) };
  const outcome = await run(rules, [at("data")], at("out"), { operation: "move" });
  expect(refused(outcome)).toEqual(["/data/secret"]);
  expect(below(at("out"))).toEqual(["data", "data/public", "data/secrets", "data/secrets/file"]);
  expect(readFileSync(at("data/secret/deep/file"), "utf8")).toBe("secret");
  expect(existsSync(at("data/public"))).toBe(false);
  // What holds nothing denied is renamed as a whole, and files by themselves are asked about too.
  expect((await run(rules, [at("out/data")], at("renamed"), { operation: "move" })).job.result?.state).toBe("completed");
  expect(refused(await run({ maxFileSize: 3 }, [at("renamed/public")], at("out"), { operation: "move" }))).toEqual(["/renamed/public"]);
  // Nor is a directory renamed that may hold files of a kind that is denied.
  writeFileSync(at("renamed/film.mkv"), "x");
  const byKind = await run({ denyExtensions: ["mkv"] }, [at("renamed")], at("out"), { operation: "move" });
  expect(refused(byKind)).toEqual(["/renamed/film.mkv"]);
  expect([below(at("renamed")), existsSync(at("out/renamed/public"))]).toEqual([["film.mkv"], true]);
  expect(refused(await run(rules, [at("data/secret")], at("out"), { operation: "move" }).catch(explain))).toEqual(["refused"]);
});

test("an exchange is asked about on both sides, where links lead, and as a whole", async () => {
  mkdirSync(at("kept/inner"), { recursive: true });
  writeFileSync(at("kept/file"), "kept");
  symlinkSync(at("kept"), at("way"));
  const exchange = (rules: Partial<PolicyRules>, source: string, destination: string): Promise<Outcome> =>
    run(rules, [source], destination, {
      operation: "move",
      options: { onConflict: "overwrite", target: "exact", gnu: { exchange: true } },
    });
  const [there, here] = [`${at("way")}/file`, at("data/public")];
  const contents = (): string[] => [at("kept/file"), here].map((path) => readFileSync(path, "utf8"));
  expect(refused(await exchange({ denyDestinations: paths(at("kept")) }, there, here))).toEqual(["/data/public"]);
  expect(refused(await exchange({ denyDestinations: paths(at("kept")) }, here, there))).toEqual(["/way/file"]);
  expect(refused(await exchange({ denySources: paths(at("kept")) }, there, here))).toEqual(["/way/file"]);
  expect(refused(await exchange({ denySources: paths(at("kept")) }, here, there))).toEqual(["/way/file"]);
  // Of what comes the other way the size and name are not looked at.
  expect(refused(await exchange({ maxFileSize: 1000 }, here, there))).toEqual(["/way/file"]);
  expect(refused(await exchange({ denySources: paths(at("data/secret")) }, at("data"), at("kept/inner")))).toEqual(["/kept/inner"]);
  expect(contents()).toEqual(["kept", "public"]);
  expect((await exchange({ denySources: paths(at("data/secret")) }, here, there)).job.result?.state).toBe("completed");
  expect(contents()).toEqual(["public", "kept"]);
});

test("a link to a directory that is written through, and a manifest, are asked about where they lead", async () => {
  mkdirSync(at("kept/inner"), { recursive: true });
  mkdirSync(at("tree"));
  writeFileSync(at("tree/file"), "x");
  symlinkSync(at("kept/inner"), at("out/tree"));
  const rules = { denyDestinations: paths(at("kept")) };
  const through = { onConflict: "overwrite", gnu: { inPlace: true, keepDirectorySymlink: true } };
  expect(refused(await run(rules, [at("tree")], at("out"), { options: through }))).toEqual(["/out/tree"]);
  const manifest = `${at("out/tree")}/sums`;
  expect(refused(await run(rules, [at("tree/file")], at("out"), { options: { manifest } }))).toEqual(["/out/tree/sums"]);
  expect(below(at("kept"))).toEqual(["inner"]);
});
