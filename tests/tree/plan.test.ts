// The planner as a table: what stands at the destination, the options, and the operation; and cp's rule of the same file.

import { describe, expect, test } from "bun:test";
import {
  backupNameOf,
  type EntryFacts,
  type EntryType,
  type Operation,
  type PlanFacts,
  type PlanOptions,
  planEntry,
  serialName,
} from "../../src/tree/plan.ts";

let identities = 0;

function facts(type: EntryType, more: Partial<EntryFacts> = {}): EntryFacts {
  identities++;
  return { type, size: 10, mtimeSeconds: 1000, mtimeNanoseconds: 0, identity: `1:0:${identities}`, linkCount: 1, ...more };
}

const service: PlanOptions = {
  onConflict: "overwrite",
  inPlace: false,
  isMv: false,
  force: false,
  onlyOlder: false,
  removeDestination: false,
  backup: "none",
  make: "copy",
  attributesOnly: false,
  copyContents: false,
  keepDirectorySymlink: false,
  keepsSymlinks: false,
  keepsHardLinks: false,
};
const cp: PlanOptions = { ...service, inPlace: true, copyContents: true };
const cpP: PlanOptions = { ...cp, keepsSymlinks: true };

function plan(source: EntryFacts, destination: EntryFacts, options: PlanOptions, more: Partial<PlanFacts> = {}): string {
  return said(planEntry({ source, destination, target: null, isJustMade: false, isBackupOfDestination: false, ...more }, options));
}

function said(operation: Operation): string {
  if (operation.kind === "fail") return operation.why;
  if (operation.kind === "replace") return operation.isTold ? "replace, told" : "replace";
  if (operation.kind === "skip") return operation.isUpToDate ? "up to date" : "skip";
  return operation.kind;
}

const types: readonly EntryType[] = ["file", "directory", "symlink", "special"];

describe("of the service", () => {
  const rows: readonly (readonly [string, Partial<PlanOptions>, readonly string[]])[] = [
    // Over a file, a directory, a symlink, a special file.
    ["overwrite", {}, ["replace", "other-over-directory", "replace", "replace"]],
    ["fail", { onConflict: "fail" }, ["exists", "other-over-directory", "exists", "exists"]],
    ["skip", { onConflict: "skip" }, ["skip", "skip", "skip", "skip"]],
    ["rename", { onConflict: "rename" }, ["rename", "rename", "rename", "rename"]],
    ["ask", { onConflict: "ask" }, ["ask", "ask", "ask", "ask"]],
    ["newer", { onConflict: "newer" }, ["up to date", "up to date", "up to date", "up to date"]],
    ["differs", { onConflict: "differs" }, ["up to date", "other-over-directory", "replace", "replace"]],
    ["backup", { backup: "simple" }, ["back-up", "other-over-directory", "back-up", "back-up"]],
  ];
  for (const [name, options, wanted] of rows) {
    test(`a file with ${name}`, () => {
      expect(types.map((type) => plan(facts("file"), facts(type), { ...service, ...options }))).toEqual([...wanted]);
    });
  }

  test("a directory merges into a directory, and into nothing else", () => {
    expect(types.map((type) => plan(facts("directory"), facts(type), service))).toEqual([
      "directory-over-other",
      "merge",
      "directory-over-other",
      "directory-over-other",
    ]);
  });

  test("the same inode is the same file", () => {
    const one = facts("file");
    expect(plan(one, one, service)).toBe("same-file");
  });

  test("newer looks at nanoseconds", () => {
    const source = facts("file", { mtimeNanoseconds: 2 });
    expect(plan(source, facts("file", { mtimeNanoseconds: 1 }), { ...service, onConflict: "newer" })).toBe("replace");
    expect(plan(source, facts("file", { mtimeNanoseconds: 2 }), { ...service, onConflict: "newer" })).toBe("up to date");
  });
});

describe("of cp", () => {
  const rows: readonly (readonly [string, EntryType, EntryType, PlanOptions, string])[] = [
    ["a file into a file", "file", "file", cp, "overwrite-in-place"],
    ["a file into a device", "file", "special", cp, "overwrite-in-place"],
    ["a file over a directory", "file", "directory", cp, "other-over-directory"],
    ["a FIFO's contents", "special", "file", cp, "overwrite-in-place"],
    ["a FIFO over a file", "special", "file", { ...cpP, copyContents: false }, "replace, told"],
    ["a link over a file", "symlink", "file", cpP, "replace, told"],
    ["a link's attributes over a file", "symlink", "file", { ...cpP, attributesOnly: true }, "attempt"],
    ["a directory over a file", "directory", "file", cp, "directory-over-other"],
    ["a directory over a file with -n", "directory", "file", { ...cp, onConflict: "skip" }, "directory-over-other"],
    ["a directory into a directory", "directory", "directory", { ...cp, onConflict: "ask" }, "merge"],
    ["--remove-destination", "file", "file", { ...cp, removeDestination: true }, "replace, told"],
    ["--remove-destination of a directory", "file", "directory", { ...cp, removeDestination: true }, "other-over-directory"],
    ["-l", "file", "file", { ...cp, make: "hard-link" }, "attempt"],
    ["-lf", "file", "file", { ...cp, make: "hard-link", force: true }, "replace"],
    ["-s", "file", "file", { ...cp, make: "symbolic-link" }, "attempt"],
    ["-sf", "file", "file", { ...cp, make: "symbolic-link", force: true }, "replace"],
    ["-n", "file", "file", { ...cp, onConflict: "skip" }, "skip"],
    ["-n over a directory", "file", "directory", { ...cp, onConflict: "skip" }, "skip"],
    ["--update=none-fail", "file", "file", { ...cp, onConflict: "fail" }, "not-replacing"],
    ["-i", "file", "file", { ...cp, onConflict: "ask" }, "ask"],
    ["-u -i with an equal time", "file", "file", { ...cp, onConflict: "ask", onlyOlder: true }, "up to date"],
    ["-b", "file", "file", { ...cp, backup: "existing" }, "back-up"],
    ["-b over a link", "file", "symlink", { ...cp, backup: "existing" }, "back-up"],
  ];
  for (const [name, source, destination, options, wanted] of rows) {
    test(name, () => expect(plan(facts(source), facts(destination), options)).toBe(wanted));
  }

  test("a file that has other names gives way where hard links are kept", () => {
    const destination = facts("file", { linkCount: 2 });
    expect(plan(facts("file"), destination, { ...cp, keepsHardLinks: true })).toBe("replace, told");
    expect(plan(facts("file"), destination, cp)).toBe("overwrite-in-place");
  });

  test("a link at the destination is written through, and one to nothing is not", () => {
    const link = facts("symlink");
    expect(plan(facts("file"), link, cp, { target: facts("file") })).toBe("overwrite-in-place");
    expect(plan(facts("file"), link, cp, { target: facts("directory") })).toBe("other-over-directory");
    expect(plan(facts("file"), link, cp)).toBe("through-dangling-link");
    expect(plan(facts("file"), link, { ...cp, removeDestination: true })).toBe("replace, told");
  });

  test("what this job just made is safe from it", () => {
    expect(plan(facts("file"), facts("file"), cp, { isJustMade: true })).toBe("just-made");
    expect(plan(facts("file"), facts("file"), { ...cp, backup: "numbered" }, { isJustMade: true })).toBe("back-up");
    expect(plan(facts("file"), facts("file"), { ...cp, onConflict: "skip" }, { isJustMade: true })).toBe("skip");
    expect(plan(facts("file"), facts("symlink"), cp, { isJustMade: true })).toBe("link-just-made");
    expect(plan(facts("file"), facts("symlink"), cp, { isJustMade: true, target: facts("file") })).toBe("link-just-made");
  });

  test("a simple backup never replaces the source", () => {
    expect(plan(facts("file"), facts("file"), { ...cp, backup: "simple" }, { isBackupOfDestination: true })).toBe("backup-onto-source");
    expect(plan(facts("file"), facts("file"), { ...cp, backup: "numbered" }, { isBackupOfDestination: true })).toBe("back-up");
  });

  test("--keep-directory-symlink merges into what a link leads to", () => {
    const through = { target: facts("directory") };
    expect(plan(facts("directory"), facts("symlink"), cpP, through)).toBe("directory-over-other");
    expect(plan(facts("directory"), facts("symlink"), { ...cpP, keepDirectorySymlink: true }, through)).toBe("merge");
  });
});

describe("of mv", () => {
  const mv: PlanOptions = { ...service, isMv: true, keepsSymlinks: true, keepsHardLinks: true };
  const rows: readonly (readonly [string, EntryType, EntryType, PlanOptions, string])[] = [
    ["a file over a file", "file", "file", mv, "replace"],
    ["a link over a link", "symlink", "symlink", mv, "replace"],
    ["a file over a directory", "file", "directory", mv, "other-over-directory"],
    ["a directory over a file", "directory", "file", mv, "directory-over-other"],
    ["a directory over a directory", "directory", "directory", mv, "merge"],
    ["a directory over a directory with -i", "directory", "directory", { ...mv, onConflict: "ask" }, "ask"],
    ["a directory over a directory with -u", "directory", "directory", { ...mv, onConflict: "newer" }, "merge"],
    ["-n", "file", "file", { ...mv, onConflict: "skip" }, "skip"],
    ["-b", "file", "file", { ...mv, backup: "simple" }, "back-up"],
    ["-b, a directory over a file", "directory", "file", { ...mv, backup: "simple" }, "back-up"],
    ["-b, a file over a directory", "file", "directory", { ...mv, backup: "simple" }, "back-up"],
  ];
  for (const [name, source, destination, options, wanted] of rows) {
    test(name, () => expect(plan(facts(source), facts(destination), options)).toBe(wanted));
  }

  test("two names of one file, and a link and what it leads to, stay", () => {
    const file = facts("file", { linkCount: 2 });
    const link = facts("symlink");
    const one = { kinship: { sourceName: file, sourceTarget: null, isOneName: false } };
    expect(plan(file, file, mv, one)).toBe("same-file");
    expect(plan(file, file, { ...mv, backup: "simple" }, one)).toBe("back-up");
    expect(plan(link, file, mv, { kinship: { sourceName: link, sourceTarget: file, isOneName: false } })).toBe("same-file");
  });
});

describe("the same file", () => {
  const file = facts("file", { linkCount: 2 });
  const link = facts("symlink");
  const kin = (sourceName: EntryFacts, sourceTarget: EntryFacts | null, isOneName: boolean): Partial<PlanFacts> => ({
    kinship: { sourceName, sourceTarget, isOneName },
  });

  const rows: readonly (readonly [string, EntryFacts, EntryFacts, PlanOptions, Partial<PlanFacts>, string])[] = [
    ["by its own name", file, file, cp, kin(file, null, true), "same-file"],
    ["by another hard link", file, file, cp, kin(file, null, false), "same-file"],
    ["by its own name with -n", file, file, { ...cp, onConflict: "skip" }, kin(file, null, true), "skip"],
    [
      "by another hard link with --remove-destination",
      file,
      file,
      { ...cp, removeDestination: true },
      kin(file, null, false),
      "replace, told",
    ],
    ["by its own name with --remove-destination", file, file, { ...cp, removeDestination: true }, kin(file, null, true), "same-file"],
    ["by another hard link with -b", file, file, { ...cp, backup: "simple" }, kin(file, null, false), "back-up"],
    ["by its own name with -b", file, file, { ...cp, backup: "simple" }, kin(file, null, true), "same-file"],
    ["by another hard link with -l", file, file, { ...cp, make: "hard-link" }, kin(file, null, false), "nothing"],
    ["from a followed link", file, file, cp, kin(link, null, false), "same-file"],
    ["from a followed link with -b", file, file, { ...cp, backup: "simple" }, kin(link, null, false), "same-file"],
    ["from a link that is kept", link, file, cpP, kin(link, file, false), "same-file"],
    ["through a link", file, link, cp, { ...kin(file, null, false), target: file }, "same-file"],
    [
      "through a link with --remove-destination",
      file,
      link,
      { ...cp, removeDestination: true },
      { ...kin(file, null, false), target: file },
      "replace, told",
    ],
    ["a link by its own name", link, link, cpP, kin(link, file, true), "same-file"],
    ["two links that are one inode", link, link, cpP, kin(link, file, false), "nothing"],
  ];
  for (const [name, source, destination, options, more, wanted] of rows) {
    test(name, () => expect(plan(source, destination, options, more)).toBe(wanted));
  }
});

describe("names", () => {
  test("a serial number comes before the extension", () => {
    expect(serialName("photo.jpg", 2, "file")).toBe("photo (2).jpg");
    expect(serialName(".profile", 2, "file")).toBe(".profile (2)");
    expect(serialName("v1.2", 3, "directory")).toBe("v1.2 (3)");
    expect(serialName("x".repeat(255), 2, "file").length).toBe(255);
  });

  const backups: readonly (readonly [string, "simple" | "numbered" | "existing", readonly string[], string])[] = [
    ["a", "simple", [], "a~"],
    ["a", "numbered", [], "a.~1~"],
    ["a", "numbered", ["a.~1~", "a.~9~"], "a.~10~"],
    ["a", "numbered", ["a.~99999999999999999999~"], "a.~100000000000000000000~"],
    ["a", "numbered", ["a.~01~", "a.~1~x", "ab.~7~"], "a.~1~"],
    ["a", "existing", [], "a~"],
    ["a", "existing", ["a.~3~"], "a.~4~"],
    ["x".repeat(255), "simple", [], `${"x".repeat(253)}~`],
  ];
  for (const [name, control, names, wanted] of backups) {
    test(`a ${control} backup beside ${names.length === 0 ? "nothing" : names.join(" ")}`, () => {
      expect(backupNameOf(name, control, "~", names).name).toBe(wanted);
    });
  }
});
