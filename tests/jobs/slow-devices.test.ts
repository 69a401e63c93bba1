// Which slow devices a job works on: over trees like sysfs and texts like mountinfo, and on a real loop device.

import { afterAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { SlowDevices } from "../../src/jobs/slow-devices.ts";
import { MountTable } from "../../src/mount-table.ts";
import type { JobRequest } from "../../src/request.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { runChecked } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const directory = await temporaryDirectory();
afterAll(() => directory[Symbol.asyncDispose]());
const sysfs = join(directory.path, "sys");
const dev = join(directory.path, "dev");
const mountInfo = join(directory.path, "mountinfo");

interface Disk {
  readonly number: string;
  readonly rotational?: boolean;
  readonly slaves?: readonly string[];
  readonly backing?: string;
}

/** A disk in our sysfs, by the path below devices/ that it has there; `partitions` number:name. */
function disk(
  path: string,
  { number, rotational = false, slaves = [], backing }: Disk,
  partitions: Readonly<Record<string, string>> = {},
): void {
  const place = join(sysfs, "devices", path);
  mkdirSync(join(place, "queue"), { recursive: true });
  writeFileSync(join(place, "queue/rotational"), rotational ? "1\n" : "0\n");
  register(place, number);
  for (const [of, name] of Object.entries(partitions)) {
    mkdirSync(join(place, name));
    writeFileSync(join(place, name, "partition"), "1\n");
    register(join(place, name), of);
  }
  if (slaves.length > 0) mkdirSync(join(place, "slaves"));
  for (const slave of slaves) symlinkSync(`../../${slave}`, join(place, "slaves", slave));
  if (backing === undefined) return;
  mkdirSync(join(place, "loop"));
  writeFileSync(join(place, "loop/backing_file"), `${backing}\n`);
}

function register(place: string, number: string): void {
  for (const link of [join(sysfs, "dev/block", number), join(sysfs, "class/block", basename(place))]) {
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(relative(dirname(link), place), link);
  }
}

disk("pci0/ata1/block/sda", { number: "8:0", rotational: true }, { "8:1": "sda1", "8:2": "sda2" });
disk("pci0/usb2/2-1/block/sdb", { number: "8:16" }, { "8:17": "sdb1" });
disk("pci0/nvme0/nvme0n1", { number: "259:0" }, { "259:1": "nvme0n1p1" });
disk("pci0/virtio1/block/vda", { number: "254:0", rotational: true });
disk("pci0/ata2/block/sdc", { number: "8:32", rotational: true });
disk("virtual/block/dm-0", { number: "253:0", rotational: true, slaves: ["sda2"] });
disk("virtual/block/md0", { number: "9:0", rotational: true, slaves: ["sda2", "sdc"] });
disk("virtual/block/dm-1", { number: "253:1", slaves: ["md0"] });
disk("virtual/block/loop0", { number: "7:0", rotational: true, backing: "/disk/image" });
disk("virtual/block/loop1", { number: "7:1", rotational: true, backing: "/tmp/image" });
disk("virtual/block/loop2", { number: "7:2", backing: "/loop2/itself" });
mkdirSync(join(sysfs, "fs/btrfs/some-uuid/devices"), { recursive: true });
for (const member of ["sdc", "sdb1"]) symlinkSync(`../../../../class/block/${member}`, join(sysfs, "fs/btrfs/some-uuid/devices", member));
mkdirSync(join(dev, "mapper"), { recursive: true });
symlinkSync("../dm-1", join(dev, "mapper/raid"));

const lines: string[] = [];
function mounted(point: string, device: string, type = "ext4", source = "none", options = "rw", parent = 1): void {
  lines.push(`${lines.length + 2} ${parent} ${device} / ${point} rw,relatime shared:1 - ${type} ${source} ${options}`);
}
lines.push("1 0 259:1 / / rw - ext4 /dev/nvme0n1p1 rw");
mounted("/disk", "8:1");
mounted("/stick", "8:17", "vfat");
mounted("/with\\040blank", "8:32");
mounted("/virtual", "254:0");
mounted("/crypt", "253:0");
mounted("/raid", "253:1");
mounted("/loop", "7:0");
mounted("/shm-loop", "7:1");
mounted("/loop2", "7:2");
mounted("/tmp", "0:30", "tmpfs", "tmpfs");
mounted("/net", "0:31", "nfs4", "server:/dev/sda1");
mounted("/pool", "0:32", "btrfs", "/dev/sdb1");
mounted("/lone", "0:33", "btrfs", "/dev/mapper/raid");
mounted("/layers", "0:34", "overlay", "overlay", "rw,lowerdir=/root\\134:x:/with\\040blank/lower,upperdir=/stick/upper,workdir=/disk/work");
mounted("/gone", "8:99");
// Two that lie one upon the other, and one that the upper hides.
mounted("/stacked", "8:17");
const lower = lines.length + 1;
mounted("/stacked/below", "8:32", "ext4", "none", "rw", lower);
mounted("/stacked", "8:1", "ext4", "none", "rw", lower);
writeFileSync(mountInfo, `${lines.join("\n")}\n`, "latin1");

function requestOf(destination: string, ...sources: string[]): JobRequest {
  return requestSchema.parse({ operation: "copy", sources: sources.length === 0 ? ["/etc/x"] : sources, destination });
}

const devices = new SlowDevices({ sysfs, dev, mountInfo });
devices.look();

for (const [what, destination, wanted] of [
  ["a partition of a rotating disk is the disk", "/disk/a/b", ["sda"]],
  ["a stick is known by its way through usb, whatever it says of itself", "/stick", ["sdb"]],
  ["a blank in a mount point", "/with blank/x", ["sdc"]],
  ["a fast disk has no rule", "/home/me", []],
  ["what a virtual machine says of its disk is not believed", "/virtual/x", []],
  ["an encrypted volume is the disk below", "/crypt/x", ["sda"]],
  ["volumes upon an array are all its disks", "/raid/x", ["sda", "sdc"]],
  ["an image is where its file lies", "/loop/x", ["sda"]],
  ["an image in memory is what it says of itself", "/shm-loop/x", ["loop1"]],
  ["an image that lies in itself ends the search", "/loop2/x", []],
  ["memory has no device", "/tmp/x", []],
  ["a server's path is no device of ours", "/net/x", []],
  ["a pool is all its members", "/pool/x", ["sdb", "sdc"]],
  ["a pool of one is found by its name", "/lone/x", ["sda", "sdc"]],
  ["an overlay is where its layers lie", "/layers/x", ["sdb", "sdc"]],
  ["a device that has gone is none", "/gone/x", []],
  ["what is mounted later lies above", "/stacked/x", ["sda"]],
  ["and hides what was mounted below", "/stacked/below/x", ["sda"]],
  ["dots are gone before the mounts are looked at", "/stick/../disk/./x", ["sda"]],
  ["a name that only begins alike is another place", "/disk2/x", []],
] as const) {
  test(what, () => expect(devices.of(requestOf(destination))).toEqual([...wanted]));
}

test("sources count as much as the destination, and each device once", () => {
  expect(devices.of(requestOf("/stick/x", "/disk/a", "/disk/b", "/crypt/c", "/etc/d"))).toEqual(["sda", "sdb"]);
});

test("what is mounted later is seen at the next look, also for a job that waits", () => {
  const changing = join(directory.path, "changing");
  writeFileSync(changing, `${lines[0]}\n`);
  const looking = new SlowDevices({ sysfs, dev, mountInfo: changing });
  looking.look();
  const request = requestOf("/disk/x");
  expect(looking.of(request)).toEqual([]);
  writeFileSync(changing, `${lines.slice(0, 2).join("\n")}\n`);
  looking.look();
  expect(looking.of(request)).toEqual(["sda"]);
});

test("without a mountinfo, a root or sysfs there is no rule and no error", () => {
  const blind = new SlowDevices({ sysfs: "/nonexistent", dev, mountInfo: "/nonexistent" });
  blind.look();
  expect(blind.of(requestOf("/disk/x"))).toEqual([]);
  expect(new MountTable("rubbish\n1 2\n - \n").find(requestOf("/x").destination)).toBeUndefined();
});

testUnless(whyNoFilesystem("ext4"), "this machine's own mounts and sysfs: a loop device that is told it turns", async () => {
  await using filesystem = await mountFilesystem("ext4", { sizeBytes: 20 * 1024 * 1024 });
  const source = (await runChecked(["findmnt", "-no", "SOURCE", filesystem.path])).stdout.toString().trim();
  const name = basename(source);
  const rotational = `/sys/block/${name}/queue/rotational`;
  const before = readFileSync(rotational, "utf8");
  const real = new SlowDevices();
  const request = requestOf(join(filesystem.path, "x"));
  try {
    writeFileSync(rotational, "0");
    real.look();
    expect(real.of(request)).toEqual([]);
    writeFileSync(rotational, "1");
    real.forget();
    real.look();
    expect(real.of(request)).toEqual([name]);
  } finally {
    writeFileSync(rotational, before);
  }
});
