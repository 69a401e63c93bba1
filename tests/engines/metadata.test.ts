// Everything a file is besides its data arrives, on every filesystem, as root and as somebody else; and what cannot is said.

import { expect, test } from "bun:test";
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { MetadataCopier } from "../../src/engines/metadata.ts";
import { Errno } from "../../src/errno.ts";
import { libc, Open } from "../../src/ffi/libc.ts";
import { Arena } from "../../src/ffi/memory.ts";
import { filesystemKinds, mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, runChecked } from "../support/process.ts";
import { firstReason, testUnless, unlessRoot } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { asUser, runAs, unlistedUser, whyNoUsers } from "../support/users.ts";
import { opened, statOf } from "./copying.ts";
import { copyMetadata, everything, type Loss } from "./copying-metadata.ts";

const driver = new URL("metadata-driver.ts", import.meta.url).pathname;
const noTools = havePrograms("setfacl", "getfacl", "setfattr", "getfattr", "setcap") ? null : "acl, attr or libcap2-bin is not installed";

/** Makes one entry of each kind with everything that can be set on it. */
const makeEntries = `
umask 022
echo x > file; chown 3:4 file; setfattr -n user.one -v 1 file; setfattr -n user.empty -v '' file; setfattr -n trusted.two -v 22 file
setfacl -m u:5:rw,g::- file; chmod 6755 file; setcap cap_net_raw+ep file
echo x > plain; chmod 0 plain
echo x > sticky; chmod 7711 sticky; chown 9:9 sticky; chmod 7711 sticky
echo x > readonly; setfattr -n user.kept -v yes readonly; chmod 0444 readonly
mkdir directory; chmod 2770 directory; chown 6:7 directory; chmod 3771 directory; setfacl -m u:8:x -d -m g:8:rwx directory
setfattr -n user.d -v d directory
mkfifo -m 640 fifo; chown 8:9 fifo; setfacl -m u:1:r fifo
mknod -m 604 device c 1 3; chown 1:2 device
ln -s target link; chown -h 8:9 link; setfattr -h -n trusted.l -v 1 link
touch -d '1960-02-03 04:05:06.123456789 UTC' file
touch -d '2038-01-19 03:14:09.999999999 UTC' directory fifo
touch -h -d '2001-09-09 01:46:40.000000001 UTC' link device readonly plain sticky`;

const entries = ["file", "plain", "sticky", "readonly", "directory", "fifo", "device", "link"] as const;

/** Type, mode, owner, times and size class as stat says, then every attribute in hexadecimal, ACLs among them. */
async function describeEntry(path: string): Promise<string> {
  const stat = await runChecked(["stat", "-c", "%F %a %u %g %t:%T %y", path]);
  const attributes = await runChecked(["getfattr", "-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", path]);
  return `${stat.stdout.replace("regular empty file", "regular file")}${attributes.stdout.split("\n").slice(1).sort().join("\n")}`;
}

async function withFilesystem(kind: (typeof filesystemKinds)[number], body: (filesystem: TestFilesystem) => Promise<void>): Promise<void> {
  await using filesystem = await mountFilesystem(kind);
  await body(filesystem);
}

for (const kind of filesystemKinds) {
  const reason = firstReason(whyNoFilesystem(kind), noTools);

  testUnless(reason, `on ${kind}, root keeps everything of every kind of entry`, () =>
    withFilesystem(kind, async ({ path }) => {
      mkdirSync(`${path}/sources`);
      await runChecked(["sh", "-ec", makeEntries], { cwd: `${path}/sources` });
      mkdirSync(`${path}/copies`);
      for (const name of entries) {
        expect(copyMetadata(`${path}/sources/${name}`, `${path}/copies/${name}`)).toEqual([]);
        const copy = (await describeEntry(`${path}/copies/${name}`)).replaceAll("/copies/", "/sources/");
        expect(copy).toBe(await describeEntry(`${path}/sources/${name}`));
      }
    }),
  );

  testUnless(reason, `on ${kind}, what a directory gives its new files does not stay on copies of files without it`, () =>
    withFilesystem(kind, async ({ path }) => {
      mkdirSync(`${path}/sources`);
      mkdirSync(`${path}/copies`);
      await runChecked(["sh", "-ec", makeEntries], { cwd: `${path}/sources` });
      await runChecked(["setfacl", "-d", "-m", "u:77:rwx,g:78:r", `${path}/copies`]);
      for (const name of entries) {
        expect(copyMetadata(`${path}/sources/${name}`, `${path}/copies/${name}`)).toEqual([]);
        const copy = (await describeEntry(`${path}/copies/${name}`)).replaceAll("/copies/", "/sources/");
        expect(copy).toBe(await describeEntry(`${path}/sources/${name}`));
      }
      // Where nothing is asked, the directory's rules stand.
      copyMetadata(`${path}/sources/plain`, `${path}/copies/inherits`, ["times"]);
      expect((await runChecked(["getfacl", "-n", "-p", `${path}/copies/inherits`])).stdout).toContain("user:77:rwx");
    }),
  );

  testUnless(firstReason(reason, whyNoUsers()), `on ${kind}, a user keeps what is theirs and is told what is not`, () =>
    withFilesystem(kind, async ({ path }) => {
      const user = unlistedUser();
      await runChecked(["sh", "-ec", `chmod 755 .; mkdir sources copies; chown ${user.uid}:${user.gid} sources copies`], { cwd: path });
      const script = `
        umask 022; cd ${path}/sources
        echo x > mine; setfattr -n user.a -v b mine; setfacl -m u:5:r mine; chmod 6510 mine
        echo x > readonly; setfattr -n user.kept -v yes readonly; chmod 0400 readonly
        mkdir directory; setfattr -n user.d -v d directory; chmod 0500 directory
        ln -s target link; mkfifo fifo
        touch -h -d '1999-01-01 00:00:00.5 UTC' mine readonly directory link fifo`;
      await runChecked(asUser(user, ["sh", "-ec", script]));
      for (const name of ["mine", "readonly", "directory", "link", "fifo"]) {
        expect(await lossesAs(user, `${path}/sources/${name}`, `${path}/copies/${name}`)).toEqual([]);
        const copy = (await describeEntry(`${path}/copies/${name}`)).replaceAll("/copies/", "/sources/");
        expect(copy).toBe(await describeEntry(`${path}/sources/${name}`));
      }
      const foreign = `${path}/sources/foreign`;
      await runChecked([
        "sh",
        "-ec",
        `echo x > ${foreign}; chown 3:${user.gid} ${foreign}; chmod 6755 ${foreign}; setcap cap_net_raw+ep ${foreign}`,
      ]);
      const losses = await lossesAs(user, foreign, `${path}/copies/foreign`);
      expect(losses.map(({ attribute, errno }) => [attribute, errno])).toEqual([
        ["owner", Errno.EPERM],
        ["xattr", Errno.EPERM],
      ]);
      const copy = statSync(`${path}/copies/foreign`);
      // Without its owner a file must not run as its owner (rule 20).
      expect([copy.uid, copy.gid, copy.mode & 0o7777]).toEqual([user.uid, user.gid, 0o755]);
    }),
  );
}

async function lossesAs(user: ReturnType<typeof unlistedUser>, source: string, destination: string): Promise<Loss[]> {
  const result = await runAs(user, [process.execPath, driver, source, destination, everything.join(",")], { cwd: "/" });
  if (result.status !== 0) throw new Error(result.stderr);
  return JSON.parse(result.stdout);
}

testUnless(
  firstReason(whyNoFilesystem("ext4"), noTools),
  "an ACL that is lost is told, and its named users' rights do not pass to the group",
  () =>
    withFilesystem("ext4", async ({ path }) => {
      mkdirSync(`${path}/flat`);
      // A filesystem that knows no ACLs.
      await runChecked(["mount", "-t", "ramfs", "none", `${path}/flat`]);
      writeFileSync(`${path}/file`, "x");
      await runChecked(["setfacl", "-m", "u:5:rwx,g::r", `${path}/file`]);
      expect(statSync(`${path}/file`).mode & 0o777).toBe(0o674);
      const losses = copyMetadata(`${path}/file`, `${path}/flat/file`);
      expect(losses.map(({ attribute, errno }) => [attribute, errno])).toEqual([["acl", Errno.EOPNOTSUPP]]);
      expect(statSync(`${path}/flat/file`).mode & 0o777).toBe(0o644);
      // The mode alone is asked: the same holds, and nothing was lost that anybody wanted.
      expect(copyMetadata(`${path}/file`, `${path}/flat/modeOnly`, ["mode"])).toEqual([]);
      expect(statSync(`${path}/flat/modeOnly`).mode & 0o777).toBe(0o644);
      await runChecked(["umount", `${path}/flat`]);
    }),
);

testUnless(firstReason(whyNoFilesystem("tmpfs"), noTools), "only what was asked is kept", () =>
  withFilesystem("tmpfs", async ({ path }) => {
    await runChecked(["sh", "-ec", makeEntries], { cwd: path });
    const { mtimeNs } = statSync(`${path}/file`, { bigint: true });
    copyMetadata(`${path}/file`, `${path}/none`, []);
    expect(await describeEntry(`${path}/none`)).toStartWith("regular file 600 0 0");
    expect(await describeEntry(`${path}/none`)).not.toContain("=");
    copyMetadata(`${path}/file`, `${path}/times`, ["times"]);
    expect(statSync(`${path}/times`, { bigint: true }).mtimeNs).toBe(mtimeNs);
    copyMetadata(`${path}/file`, `${path}/xattr`, ["xattr"]);
    const attributes = await describeEntry(`${path}/xattr`);
    expect(attributes).toContain("user.one");
    expect(attributes).not.toContain("posix_acl");
    copyMetadata(`${path}/file`, `${path}/acl`, ["acl"]);
    const acl = await describeEntry(`${path}/acl`);
    expect(acl).toContain("posix_acl");
    expect(acl).not.toContain("user.one");
    // The owner is not kept, so that setuid would make it run as whoever copied it.
    copyMetadata(`${path}/file`, `${path}/mode`, ["mode"]);
    expect(statSync(`${path}/mode`).mode & 0o7777 & ~0o070).toBe(0o705);
  }),
);

test("a file without attributes costs one flistxattr and one futimens, and nothing is set that is already so", async () => {
  await using directory = await temporaryDirectory();
  writeFileSync(`${directory.path}/source`, "x", { mode: 0o600 });
  writeFileSync(`${directory.path}/copy`, "x", { mode: 0o600 });
  using arena = new Arena(8192);
  const sourceFd = opened(arena, `${directory.path}/source`, Open.O_RDONLY);
  const destinationFd = opened(arena, `${directory.path}/copy`, Open.O_WRONLY);
  using copier = new MetadataCopier(everything, () => {});
  const source = statOf(arena, sourceFd);
  const calls: string[] = [];
  const real = { ...libc };
  for (const name of Object.keys(real) as (keyof typeof libc)[]) {
    const call = real[name] as (...values: number[]) => number;
    const recorded = (...values: number[]): number => {
      calls.push(name);
      return call(...values);
    };
    Object.assign(libc, { [name]: recorded });
  }
  copier.toDescriptor(sourceFd, source, destinationFd, { uid: source.uid, gid: source.gid, mode: 0o600, inheritsAcl: false });
  Object.assign(libc, real);
  expect(calls).toEqual(["flistxattr", "futimens"]);
  libc.close(sourceFd);
  libc.close(destinationFd);
});

testUnless(
  unlessRoot(),
  "setuid stays where only the owner of a file that was written into had to be changed, which clears it",
  async () => {
    await using directory = await temporaryDirectory();
    await runChecked(["sh", "-ec", "for f in source copy; do echo x > $f; done; chown 3:4 source; chmod 6755 source copy"], {
      cwd: directory.path,
    });
    using arena = new Arena(8192);
    const sourceFd = opened(arena, `${directory.path}/source`, Open.O_RDONLY);
    const destinationFd = opened(arena, `${directory.path}/copy`, Open.O_WRONLY);
    using copier = new MetadataCopier(everything, () => {});
    copier.toDescriptor(sourceFd, statOf(arena, sourceFd), destinationFd, { uid: 0, gid: 0, mode: 0o6755 });
    const { uid, gid, mode } = statSync(`${directory.path}/copy`);
    expect([uid, gid, mode & 0o7777]).toEqual([3, 4, 0o6755]);
    libc.close(sourceFd);
    libc.close(destinationFd);
  },
);

test("nothing is done to what somebody put in a special file's place", async () => {
  await using directory = await temporaryDirectory();
  await runChecked(["sh", "-ec", "mkfifo -m 777 fifo; echo secret > target; chmod 600 target; ln -s target swapped"], {
    cwd: directory.path,
  });
  using arena = new Arena(8192);
  const dirFd = opened(arena, directory.path, Open.O_RDONLY | Open.O_DIRECTORY);
  const fifoFd = opened(arena, `${directory.path}/fifo`, Open.O_RDONLY | Open.O_NONBLOCK);
  const losses: Loss[] = [];
  using copier = new MetadataCopier(everything, (attribute, errno, syscall) => losses.push({ attribute, errno, syscall }));
  const fifo = statOf(arena, fifoFd);
  copier.toSpecial(dirFd, arena.cstring("fifo"), fifo, dirFd, arena.cstring("swapped"));
  expect(losses).toHaveLength(1);
  expect(statSync(`${directory.path}/target`).mode & 0o777).toBe(0o600);
  libc.close(fifoFd);
  libc.close(dirFd);
});
