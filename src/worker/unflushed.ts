// What of a job's copies is still to be written to the device, as far as the kernel tells: its flush will take that long.
//
// What is in the page cache is told for all filesystems together, and what a device has written for all who write to it. Neither is this
// job's alone; the less of the two is near it.

import type { ByteString } from "../bytes.ts";
import type { JobRequest } from "../request.ts";
import { mayEndWithFlush } from "./flush.ts";
import { fs } from "./late-fs.ts";

/** The figures come early in the longer file, of some 1.5 kB. */
const readBytes = 4096;
/** Waiting to be written, being written, and sent to a server that has yet to write it. */
const cachedFigures = /^(?:Dirty|Writeback|WritebackTmp|NFS_Unstable): +(\d+) kB$/gm;
/** Of a device's figures, the sectors of 512 bytes that it has written (Documentation/block/stat.rst). */
const sectorsWritten = 6;
const TMPFS_MAGIC = 0x01021994;
const RAMFS_MAGIC = 0x858458f6;

/** null for a job that does not wait for the device, and where the destination cannot be looked at: the job will say why. */
export function unflushedBytes(request: JobRequest): UnflushedBytes | null {
  if (!mayEndWithFlush(request)) return null;
  try {
    return new UnflushedBytes(deviceOf(request.destination));
  } catch {
    return null;
  }
}

export class UnflushedBytes {
  private readonly buffer = Buffer.allocUnsafe(readBytes);
  private readonly cacheFd: number;
  private readonly deviceFd: number;
  private readonly writtenBefore: number;

  /** For `unflushedBytes`. To be made before the sandbox, which lets neither /proc nor /sys be read; the descriptors are the process's, to its end. */
  constructor(device: string) {
    this.cacheFd = device === "memory" ? -1 : openOrNothing("/proc/meminfo");
    this.deviceFd = device === "memory" || device === "unknown" ? -1 : openOrNothing(`/sys/dev/block/${device}/stat`);
    this.writtenBefore = this.writtenBytes();
  }

  /** Of `copiedBytes`, those that may not be on the device yet. */
  of(copiedBytes: number): number {
    if (this.cacheFd < 0 || copiedBytes <= 0) return 0;
    let kibibytes = 0;
    for (const [, figure] of this.read(this.cacheFd).matchAll(cachedFigures)) kibibytes += Number(figure);
    const notWritten = copiedBytes - (this.writtenBytes() - this.writtenBefore);
    return Math.max(0, Math.min(copiedBytes, notWritten, kibibytes * 1024));
  }

  /** 0 where the device is not known. */
  private writtenBytes(): number {
    if (this.deviceFd < 0) return 0;
    return Number(this.read(this.deviceFd).trim().split(/\s+/)[sectorsWritten] ?? 0) * 512;
  }

  private read(fd: number): string {
    return this.buffer.toString("latin1", 0, fs().readSync(fd, this.buffer, 0, readBytes, 0));
  }
}

/** "8:1"; memory: nothing is ever flushed there. Where there is no block device of its own, as with a network or btrfs, unknown. */
function deviceOf(destination: ByteString): string {
  const path = existing(destination);
  if (path === null) return "unknown";
  const type = fs().statfsSync(path).type;
  if (type === TMPFS_MAGIC || type === RAMFS_MAGIC) return "memory";
  const { dev } = fs().statSync(path);
  // As the kernel packs it for user space: 12 bits of major number, 20 of minor.
  const major = (dev >>> 8) & 0xfff;
  return major === 0 ? "unknown" : `${major}:${(dev & 0xff) | ((dev >>> 12) & 0xfff00)}`;
}

/** The destination or, where it is still to be made, the directory that it will be in. */
function existing(destination: ByteString): Buffer | null {
  const parent = destination.slice(0, Math.max(1, destination.replace(/\/+$/, "").lastIndexOf("/")));
  for (const path of [destination, parent]) {
    const bytes = Buffer.from(path, "latin1");
    if (fs().statSync(bytes, { throwIfNoEntry: false }) !== undefined) return bytes;
  }
  return null;
}

function openOrNothing(path: string): number {
  try {
    return fs().openSync(path, "r");
  } catch {
    // Not there, or not for us: nothing is known of it.
    return -1;
  }
}
