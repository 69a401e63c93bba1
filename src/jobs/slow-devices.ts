// Which rotating or USB devices a job works on, by our own mountinfo and sysfs: two jobs on one of them only make its head, or its
// poor controller, run to and fro.
//
// No path of a user's is opened or looked at, which on a dead network filesystem would hang. So symbolic links are taken for what
// they are: one that leads to a stick is not known for it.

import { readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { ByteString } from "../bytes.ts";
import { MountTable } from "../mount-table.ts";
import type { Mount } from "../mountinfo.ts";
import type { JobRequest } from "../request.ts";

export interface DeviceSources {
  /** Where sysfs is mounted, and devtmpfs; tests give trees of their own. */
  readonly sysfs?: string;
  readonly dev?: string;
  readonly mountInfo?: string;
}

/** Names of disks, as the kernel gives them: "sda". */
export type DeviceNames = readonly string[];

/** An overlay on a loop device on an overlay...: whoever builds higher gets no rule. */
const maxDepth = 8;
const none: DeviceNames = [];

export class SlowDevices {
  private readonly sysfs: string;
  private readonly dev: string;
  private readonly mountInfo: string;
  private text = "";
  private table = new MountTable("");
  /** What was found since the mounts last changed: nothing is plugged in or out without that. */
  private byMount = new Map<Mount, DeviceNames>();
  private byRequest = new WeakMap<JobRequest, DeviceNames>();

  constructor({ sysfs = "/sys", dev = "/dev", mountInfo = "/proc/self/mountinfo" }: DeviceSources = {}) {
    this.sysfs = sysfs;
    this.dev = dev;
    this.mountInfo = mountInfo;
  }

  /** Takes up what was mounted or unmounted since. */
  look(): void {
    const text = readText(this.mountInfo) ?? "";
    if (text !== this.text) this.forget(text);
  }

  /** What sysfs said is asked for anew. */
  forget(text = ""): void {
    this.text = text;
    this.table = new MountTable(text);
    this.byMount = new Map();
    this.byRequest = new WeakMap();
  }

  /** The slow devices of a job's sources and destination, each once. */
  of(request: JobRequest): DeviceNames {
    const known = this.byRequest.get(request);
    if (known !== undefined) return known;
    const mounts = new Set([request.destination, ...request.sources].map((path) => this.table.find(path)));
    const names = union([...mounts].map((mount) => (mount === undefined ? none : this.ofMount(mount, 0))));
    this.byRequest.set(request, names);
    return names;
  }

  private ofMount(mount: Mount, depth: number): DeviceNames {
    const known = this.byMount.get(mount);
    if (known !== undefined) return known;
    const names = depth > maxDepth ? none : this.behind(mount, depth + 1);
    this.byMount.set(mount, names);
    return names;
  }

  /** Several devices, or the directories of other filesystems, are behind a device number of major 0. */
  private behind({ device, type, source, options }: Mount, depth: number): DeviceNames {
    if (!device.startsWith("0:")) return this.ofNumber(device, depth);
    if (type === "btrfs") return union(this.devicesOfBtrfs(source).map((name) => this.ofNamed(name, depth)));
    if (type === "bcachefs") return union(source.split(":").map((path) => this.ofNamed(this.nameOf(path), depth)));
    if (type === "overlay") return union(directoriesOfOverlay(options).map((path) => this.ofPath(path, depth)));
    // tmpfs, network, FUSE without a device: nothing here turns.
    return none;
  }

  private ofPath(path: string, depth: number): DeviceNames {
    const mount = path.startsWith("/") ? this.table.find(path as ByteString) : undefined;
    return mount === undefined ? none : this.ofMount(mount, depth);
  }

  private ofNumber(number: string, depth: number): DeviceNames {
    const path = realPath(join(this.sysfs, "dev/block", number));
    return path === null ? none : this.ofDisk(diskOf(path), depth);
  }

  private ofNamed(name: string, depth: number): DeviceNames {
    const path = name === "" ? null : realPath(join(this.sysfs, "class/block", name));
    return path === null ? none : this.ofDisk(diskOf(path), depth);
  }

  private ofDisk(disk: string, depth: number): DeviceNames {
    if (depth > maxDepth) return none;
    const below = union([
      ...namesIn(join(disk, "slaves")).map((slave) => this.ofNamed(slave, depth + 1)),
      this.ofPath(readText(join(disk, "loop/backing_file"))?.trimEnd() ?? "", depth + 1),
    ]);
    return below.length === 0 && isSlow(disk) ? [basename(disk)] : below;
  }

  /** All members of the filesystem that this one belongs to. */
  private devicesOfBtrfs(source: string): readonly string[] {
    const name = this.nameOf(source);
    const filesystems = join(this.sysfs, "fs/btrfs");
    for (const id of namesIn(filesystems)) {
      const members = namesIn(join(filesystems, id, "devices"));
      if (members.includes(name)) return members;
    }
    return [name];
  }

  /** /dev/mapper/home is dm-0. */
  private nameOf(path: string): string {
    if (!path.startsWith("/dev/")) return "";
    try {
      return basename(readlinkSync(join(this.dev, path.slice("/dev/".length))));
    } catch {
      // EINVAL: the device itself and no link to it; anything else: then sysfs does not know it either.
      return basename(path);
    }
  }
}

/** A partition lies in the directory of its disk. */
function diskOf(path: string): string {
  return readText(join(path, "partition")) === null ? path : dirname(path);
}

function isSlow(disk: string): boolean {
  if (disk.includes("/usb")) return true;
  // What a virtual machine is given says that it turns whatever it is, and is shared by the host with others anyway.
  return readText(join(disk, "queue/rotational"))?.trim() === "1" && !disk.includes("/virtio");
}

/** Where an overlay's files lie: upper and lower directories, with ":" and "\" written after a "\". */
function directoriesOfOverlay(options: readonly string[]): string[] {
  return options.flatMap((option) => {
    const [, paths] = /^(?:upperdir|lowerdir\+?|datadir\+?)=(.*)$/s.exec(option) ?? [];
    return (paths?.match(/(?:\\.|[^:\\])+/gs) ?? []).map((path) => path.replace(/\\(.)/gs, "$1"));
  });
}

function union(lists: readonly DeviceNames[]): DeviceNames {
  const names = new Set(lists.flat());
  return names.size === 0 ? none : [...names].sort();
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, "latin1");
  } catch {
    // Not there, or gone this moment: a device that is pulled out has no speed.
    return null;
  }
}

function realPath(path: string): string | null {
  try {
    return realpathSync(path);
  } catch {
    // As above.
    return null;
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    // As above.
    return [];
  }
}
