// The doctor says what is there, why something is not, and leaves nothing behind.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { byteStringFromText } from "../../src/bytes.ts";
import { type DoctorReport, doctorReport } from "../../src/worker/doctor.ts";
import { examineFilesystem, type FilesystemReport } from "../../src/worker/doctor-filesystem.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { runChecked } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { runAs, unlistedUser, whyNoUsers } from "../support/users.ts";

let build: TemporaryDirectory;
beforeAll(async () => {
  build = await temporaryDirectory();
  chmodSync(build.path, 0o755);
  const file = join(import.meta.dir, "doctor-child.ts");
  await runChecked([process.execPath, "build", "--compile", "--format=esm", file, "--outfile", `${build.path}/child`]);
}, 60_000);
afterAll(() => build[Symbol.asyncDispose]());

function verdicts(report: FilesystemReport): Record<string, string> {
  return Object.fromEntries(report.checks.map(({ name, verdict }) => [name, verdict]));
}

/** What Linux 6.1 and later give; RWF_DONTCACHE came with 6.14. */
const expectations = {
  ext4: { filesystem: "ext2/3/4", reflink: "no" },
  xfs: { filesystem: "xfs", reflink: "ok" },
  btrfs: { filesystem: "btrfs", reflink: "ok" },
  tmpfs: { filesystem: "tmpfs", reflink: "no" },
} as const;

for (const kind of ["ext4", "xfs", "btrfs", "tmpfs"] as const) {
  testUnless(
    whyNoFilesystem(kind),
    `finds out what ${kind} can do and leaves nothing there`,
    async () => {
      await using filesystem = await mountFilesystem(kind);
      const before = readdirSync(filesystem.path);
      const report = examineFilesystem(byteStringFromText(filesystem.path));
      expect(report.filesystem).toBe(expectations[kind].filesystem);
      const found = verdicts(report);
      expect(Object.keys(found)).toEqual([
        "O_TMPFILE",
        "reflink",
        "copy_file_range",
        "SEEK_HOLE",
        "fallocate",
        "xattrs",
        "ACLs",
        "O_DIRECT",
        "RWF_DONTCACHE",
      ]);
      expect(found.reflink).toBe(expectations[kind].reflink);
      for (const name of ["O_TMPFILE", "copy_file_range", "SEEK_HOLE", "fallocate", "ACLs"])
        expect([name, found[name]]).toEqual([name, "ok"]);
      if (kind === "tmpfs") expect(found.RWF_DONTCACHE).toBe("no");
      expect(readdirSync(filesystem.path)).toEqual(before);
    },
    60_000,
  );
}

test("a file is examined where it lies, and a missing path is named as such", async () => {
  await using directory = await temporaryDirectory();
  writeFileSync(`${directory.path}/file`, "");
  expect(examineFilesystem(byteStringFromText(`${directory.path}/file`)).checks.length).toBeGreaterThan(5);
  const [check] = examineFilesystem(byteStringFromText(`${directory.path}/missing/x`)).checks;
  expect(check).toEqual({ name: "open", verdict: "unknown", detail: "cannot open it: No such file or directory", remedy: "" });
  expect(readdirSync(directory.path)).toEqual(["file"]);
});

test("the machine's checks each have a verdict, and a remedy where it is bad", () => {
  const { checks } = doctorReport([]);
  expect(checks.map(({ name }) => name)).toEqual(["kernel", "liburing", "io_uring", "Landlock", "/proc", "open files"]);
  for (const check of checks) {
    expect(check.detail).not.toBe("");
    if (check.verdict === "no") expect([check.name, check.remedy]).not.toEqual([check.name, ""]);
  }
});

testUnless(whyNoUsers(), "an ordinary user gets a report from the compiled binary, and is told where nothing could be tried", async () => {
  await using directory = await temporaryDirectory();
  chmodSync(directory.path, 0o755);
  const result = await runAs(unlistedUser(), [`${build.path}/child`, directory.path, "/dev/shm"]);
  const report = JSON.parse(result.stdout) as DoctorReport;
  expect(result.stderr).toBe("");
  const [unwritable, writable] = report.filesystems;
  expect(unwritable?.checks.map(({ name, verdict }) => [name, verdict])).toEqual([["write", "unknown"]]);
  expect(writable?.checks.length).toBeGreaterThan(5);
});
