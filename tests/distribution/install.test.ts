// `make install` puts everything where a distribution wants it, and `make uninstall` takes exactly that away again.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runChecked } from "../support/process.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const repository = join(import.meta.dir, "../..");
let directory: TemporaryDirectory;

beforeAll(async () => {
  directory = await temporaryDirectory();
  await runChecked(["make", "dist/copyd"], { cwd: repository, timeoutMs: 120_000 });
}, 130_000);

afterAll(async () => {
  await directory[Symbol.asyncDispose]();
});

test("with PREFIX=/usr, as for a package, everything lies where the system looks for it", async () => {
  const root = await install("usr", "/usr");
  expect(filesBelow(root)).toEqual([
    "usr/bin/copyd",
    "usr/lib/systemd/system-preset/80-copyd.preset",
    "usr/lib/systemd/system/copyd-resume.service",
    "usr/lib/systemd/system/copyd.service",
    "usr/lib/systemd/user-preset/80-copyd.preset",
    "usr/lib/systemd/user/copyd-resume.service",
    "usr/lib/systemd/user/copyd.service",
    "usr/share/bash-completion/completions/copyd",
    "usr/share/dbus-1/interfaces/org.copyd.Copyd1.xml",
    "usr/share/dbus-1/services/org.copyd.Copyd1.service",
    "usr/share/dbus-1/system-services/org.copyd.Copyd1.service",
    "usr/share/dbus-1/system.d/org.copyd.Copyd1.conf",
    "usr/share/doc/copyd/CHANGELOG.md",
    "usr/share/doc/copyd/LICENSE",
    "usr/share/doc/copyd/README.md",
    "usr/share/doc/copyd/SECURITY.md",
    "usr/share/doc/copyd/copyd.toml",
    "usr/share/doc/copyd/org.copyd.Copyd1.md",
    "usr/share/fish/vendor_completions.d/copyd.fish",
    "usr/share/man/man1/copyd.1",
    "usr/share/man/man5/copyd.conf.5",
    "usr/share/man/man5/org.copyd.Copyd1.5",
    "usr/share/man/man8/copyd.8",
    "usr/share/polkit-1/actions/org.copyd.policy",
    "usr/share/zsh/vendor-completions/_copyd",
  ]);
  expect((statSync(join(root, "usr/bin/copyd")).mode & 0o7777).toString(8)).toBe("755");
  expect((await runChecked([join(root, "usr/bin/copyd"), "--version"])).stdout).toStartWith("copyd ");
  await uninstall("usr", "/usr");
  expect(filesBelow(root)).toEqual([]);
});

test("below /usr/local the units name the binary there, and the policies lie where the bus and polkit read them", async () => {
  const root = await install("local", "/usr/local");
  const files = filesBelow(root);
  expect(files).toContain("etc/dbus-1/system.d/org.copyd.Copyd1.conf");
  expect(files).toContain("usr/share/polkit-1/actions/org.copyd.policy");
  for (const file of files.filter((name) => name.endsWith(".service"))) {
    const text = readFileSync(join(root, file), "utf8");
    // One unit starts another, and no binary.
    if (!file.endsWith("copyd-resume.service")) expect(text).toContain("/usr/local/bin/copyd");
    expect(text).not.toContain("=/usr/bin/copyd");
  }
  await uninstall("local", "/usr/local");
  expect(filesBelow(root)).toEqual([]);
});

test("uninstall touches nothing that install did not put there: settings and the jobs' history stay", async () => {
  const root = await install("kept", "/usr");
  const kept = ["etc/copyd/copyd.toml", "usr/share/doc/copyd/NOTES", "var/lib/copyd/jobs.db"];
  for (const file of kept) {
    mkdirSync(join(root, file, ".."), { recursive: true });
    writeFileSync(join(root, file), "mine");
  }
  await uninstall("kept", "/usr");
  expect(filesBelow(root)).toEqual(kept);
});

async function install(name: string, prefix: string): Promise<string> {
  const root = join(directory.path, name);
  await runChecked(["make", "install", `DESTDIR=${root}`, `PREFIX=${prefix}`], { cwd: repository });
  return root;
}

async function uninstall(name: string, prefix: string): Promise<void> {
  await runChecked(["make", "uninstall", `DESTDIR=${join(directory.path, name)}`, `PREFIX=${prefix}`], { cwd: repository });
}

/** Files and symbolic links below a directory, sorted. */
function filesBelow(root: string): string[] {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .sort();
}
