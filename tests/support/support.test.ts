// The tests' own tools: a comparison that misses a difference would make every other test worthless.

import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { compareTrees } from "./compare.ts";
import { filesystemKinds, mountFilesystem, tinySizeBytes, whyNoFilesystem } from "./filesystems.ts";
import { whyNoMachine } from "./machine.ts";
import { havePrograms, run, runChecked } from "./process.ts";
import { firstReason, testUnless } from "./skip.ts";
import { temporaryDirectory } from "./temporary.ts";
import { readTrace } from "./trace.ts";
import { deepDirectory, makeOddTree } from "./tree.ts";
import { passwdUsers, runAs, unlistedUser, whyNoPasswdUsers, whyNoUsers } from "./users.ts";

const noRsync = havePrograms("rsync") ? null : "rsync is not installed";

test("a command that runs too long is killed and says so", async () => {
  const result = await run(["sleep", "60"], { timeoutMs: 100 });
  expect(result.timedOut).toBe(true);
  expect(result.signal).toBe("SIGKILL");
});

test("a temporary directory is gone after its scope, and one whose owner died is gone at the next start", async () => {
  let path: string;
  {
    await using directory = await temporaryDirectory();
    path = directory.path;
    expect(existsSync(path)).toBe(true);
  }
  expect(existsSync(path)).toBe(false);
  await using parent = await temporaryDirectory();
  await runChecked(["mkdir", "-p", `${parent.path}/copyd-test-1-99999999999-abc/inside`]);
  await using child = await temporaryDirectory(parent.path);
  expect(existsSync(`${parent.path}/copyd-test-1-99999999999-abc`)).toBe(false);
  expect(existsSync(child.path)).toBe(true);
});

test("of what strace wrote, a call that it split is whole, where it began", async () => {
  await using directory = await temporaryDirectory();
  const lines = [
    '7 openat(3, "file", O_CREAT, 0700 <unfinished ...>',
    "8 fsync(4 <unfinished ...>",
    "7 <... openat resumed>)          = 5",
    "7 close(5) = 0",
    "8 <... fsync resumed>) = -1 EIO (Input/output error) (INJECTED)",
    "8 +++ killed by SIGKILL +++",
    "",
  ];
  writeFileSync(`${directory.path}/trace`, lines.join("\n"));
  expect(readTrace(`${directory.path}/trace`)).toEqual([
    '7 openat(3, "file", O_CREAT, 0700)          = 5',
    "8 fsync(4) = -1 EIO (Input/output error) (INJECTED)",
    "7 close(5) = 0",
    "8 +++ killed by SIGKILL +++",
    "",
  ]);
});

testUnless(
  whyNoMachine(),
  "a machine whose test run was killed is ended and unmounted at the next start, and one of a living run is not",
  async () => {
    const boot = `const { bootMachine } = await import(${JSON.stringify(join(import.meta.dir, "machine.ts"))});
      console.log((await bootMachine([], () => Promise.resolve())).root); await Bun.sleep(600_000);`;
    const runs = [0, 1].map(() => Bun.spawn([process.execPath, "-e", boot], { stdout: "pipe", stderr: "inherit" }));
    try {
      const roots = await Promise.all(
        runs.map(async ({ stdout }) =>
          Buffer.from((await stdout.getReader().read()).value ?? "")
            .toString()
            .trim(),
        ),
      );
      const [dead = "", living = ""] = roots;
      runs[0]?.kill("SIGKILL");
      await runs[0]?.exited;
      expect(rootedIn(dead).length).toBeGreaterThan(0);
      // A process of its own, which has not looked yet.
      const module = JSON.stringify(join(import.meta.dir, "temporary.ts"));
      const look = `const { temporaryDirectory } = await import(${module}); await (await temporaryDirectory())[Symbol.asyncDispose]();`;
      await runChecked([process.execPath, "-e", look]);
      expect([rootedIn(dead), existsSync(dead), rootedIn(living).length > 0, existsSync(living)]).toEqual([[], false, true, true]);
      runs[1]?.kill("SIGKILL");
      await runs[1]?.exited;
      await runChecked([process.execPath, "-e", look]);
      expect([rootedIn(living), existsSync(living)]).toEqual([[], false]);
    } finally {
      for (const each of runs) each.kill("SIGKILL");
    }
  },
  90_000,
);

/** The processes of the machine with this root. */
function rootedIn(root: string): string[] {
  const files = `upperdir=${dirname(root)}/memory/`;
  return readdirSync("/proc").filter((pid) => {
    try {
      const mounts = /^\d+$/.test(pid) ? readFileSync(`/proc/${pid}/mountinfo`, "utf8") : "";
      return mounts.split("\n").some((line) => line.split(" ")[4] === "/" && line.includes(files));
    } catch {
      return false;
    }
  });
}

for (const kind of filesystemKinds) {
  testUnless(
    whyNoFilesystem(kind),
    `a fresh ${kind} is mounted, written to and gone`,
    async () => {
      let path: string;
      {
        await using filesystem = await mountFilesystem(kind);
        path = filesystem.path;
        writeFileSync(`${path}/file`, "x");
        expect((await runChecked(["stat", "-f", "-c", "%T", path])).stdout.trim()).toBe(kind === "ext4" ? "ext2/ext3" : kind);
      }
      expect(readFileSync("/proc/self/mounts", "utf8")).not.toContain(path);
    },
    60_000,
  );
}

testUnless(whyNoFilesystem("ext4"), "a tiny ext4 is full after 20 MiB", async () => {
  await using filesystem = await mountFilesystem("ext4", { sizeBytes: tinySizeBytes });
  const result = await run(["dd", "if=/dev/zero", `of=${filesystem.path}/fill`, "bs=1M", "count=30"], {
    env: { PATH: "/usr/bin:/bin", LC_ALL: "C" },
  });
  expect(result.stderr).toContain("No space left on device");
});

testUnless(whyNoUsers(), "a command runs as exactly the identity it was given", async () => {
  const user = unlistedUser();
  const result = await runAs({ ...user, groups: [4242] }, ["id"]);
  expect(result.stdout.trim()).toBe(`uid=${user.uid} gid=${user.gid} groups=${user.gid},4242`);
});

testUnless(whyNoPasswdUsers(), "the two passwd users exist while they are held", async () => {
  await using users = await passwdUsers();
  expect(users.first.uid).not.toBe(users.second.uid);
  expect((await runAs(users.first, ["id", "-un"])).stdout.trim()).toBe("copydtest1");
});

testUnless(
  firstReason(noRsync, whyNoFilesystem("ext4")),
  "a true copy of the odd tree compares equal, and each kind of damage is found",
  async () => {
    await using filesystem = await mountFilesystem("ext4");
    const source = `${filesystem.path}/source`;
    const copy = `${filesystem.path}/copy`;
    // The same tree made twice is a true copy; no tool at hand would copy paths beyond 4096 bytes.
    const makeCopy = async (): Promise<void> => {
      await runChecked(["rm", "-rf", copy]);
      await runChecked(["mkdir", copy]);
      await makeOddTree(copy);
    };
    await runChecked(["mkdir", source]);
    const tree = await makeOddTree(source);
    expect(tree.oddities.size).toBe(12);
    await makeCopy();
    expect(await compareTrees(source, copy)).toEqual([]);

    const damage: [string, string[]][] = [
      [
        "contents",
        [
          "sh",
          "-c",
          `printf '\\377' | dd of=${copy}/several-megabytes bs=1 seek=99 conv=notrunc; touch -r ${source}/several-megabytes ${copy}/several-megabytes`,
        ],
      ],
      ["a nanosecond", ["touch", "--date=2001-02-03 04:05:06.123456788 UTC", `${copy}/nested/a/b/c/file`]],
      ["a broken hard link", ["sh", "-c", `cd ${copy}/links && cp -p two new && mv new two`]],
      ["a filled hole", ["sh", "-c", `cd ${copy}/sparse && cp -p --sparse=never only-a-hole new && mv new only-a-hole`]],
      ["an attribute", ["setfattr", "-x", "user.empty", `${copy}/xattrs/file`]],
      ["a mode", ["chmod", "0755", `${copy}/modes/4755`]],
      ["an owner", ["chown", "-h", "1:1", `${copy}/symlinks/dangling`]],
      ["something more", ["touch", `${copy}/more`]],
      ["depth", ["sh", "-c", `find ${copy}/${deepDirectory} -name again -execdir rm {} +`]],
    ];
    for (const [what, command] of damage) {
      await runChecked(command, { env: { PATH: "/usr/bin:/bin" } });
      expect(`${what}: ${(await compareTrees(source, copy)).length > 0}`).toBe(`${what}: true`);
      await makeCopy();
    }
  },
  120_000,
);
