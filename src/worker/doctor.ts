// What copyd finds on this machine: the kernel's and the libraries' part of `copyd doctor`, as plain JSON from a worker process.

import { existsSync } from "node:fs";
import { release } from "node:os";
import type { ByteString } from "../bytes.ts";
import { Errno, errnoName } from "../errno.ts";
import { landlockAbi } from "../ffi/landlock.ts";
import { constants, layout } from "../ffi/layout.ts";
import { libc } from "../ffi/libc.ts";
import { loadLiburing } from "../ffi/liburing.ts";
import { liburingPath, liburingVersion } from "../ffi/liburing-file.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { Ring } from "../ffi/ring.ts";
import { type Check, examineFilesystem, type FilesystemReport } from "./doctor-filesystem.ts";

export interface DoctorReport {
  /** Of the machine and this process. */
  readonly checks: readonly Check[];
  readonly filesystems: readonly FilesystemReport[];
}

const RLIMIT_NOFILE = 7;
const RLIMIT_MEMLOCK = 8;

/** Examines the machine and the filesystems these paths lie on. Writes nothing that has a name for longer than a moment. */
export function doctorReport(paths: readonly ByteString[]): DoctorReport {
  return {
    checks: [kernel(), liburing(), ioUring(), landlock(), proc(), openFiles()],
    filesystems: paths.map(examineFilesystem),
  };
}

/**
 * `copyd worker --doctor PATH...`, a process of its own, since only workers load FFI: prints the report as JSON. The paths are
 * absolute and percent-encoded, because arguments that are not UTF-8 do not survive being passed on.
 */
export function printDoctorReport(encodedPaths: readonly string[]): number {
  const paths = encodedPaths.map(
    (path) => path.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))) as ByteString,
  );
  process.stdout.write(`${JSON.stringify(doctorReport(paths))}\n`);
  return 0;
}

function kernel(): Check {
  const [, major = "0", minor = "0"] = /^(\d+)\.(\d+)/.exec(release()) ?? [];
  const isOld = Number(major) < 5 || (Number(major) === 5 && Number(minor) < 6);
  const detail = `Linux ${release()} on ${process.arch}`;
  // openat2 came with 5.6, and copyd opens nothing below its arguments without it.
  return isOld ? check("kernel", "no", `${detail}: openat2 is missing`, "Use Linux 5.6 or later.") : check("kernel", "ok", detail);
}

function liburing(): Check {
  const library = loadLiburing();
  if (!library.available) return check("liburing", "no", library.message, "Install liburing 2.3 or later (Debian: liburing2).");
  const path = liburingPath();
  return check("liburing", "ok", `${liburingVersion(path) || "version unknown"}, ${path}`);
}

function ioUring(): Check {
  const ring = Ring.create(8);
  if (!ring.available) return check("io_uring", "no", `${ring.message} The other engines serve.`, ring.remedy);
  using owned = ring;
  const deferred = (owned.setupFlags & constants.setup.IORING_SETUP_DEFER_TASKRUN) !== 0;
  return check("io_uring", "ok", `rings work${deferred ? "" : ", without DEFER_TASKRUN (Linux 6.1)"}${registration(owned)}`);
}

/** Registered buffers are a gain, not a need: their limit is named, and is no reason against io_uring. */
function registration(ring: Ring): string {
  using memory = new NativeMemory(4096);
  const returned = ring.registerBuffers(memory.address, 4096, 1);
  if (returned < 0) return `, without registered buffers (${errnoName(-returned)})`;
  const limit = limitOf(RLIMIT_MEMLOCK);
  return `, registered buffers up to ${limit === Number.POSITIVE_INFINITY ? "any size" : `${limit / 1024} KiB (ulimit -l) for an ordinary user`}`;
}

function landlock(): Check {
  const abi = landlockAbi();
  if (abi >= 2) return check("Landlock", "ok", `ABI ${abi}: workers are confined to their job's paths`);
  const detail = abi === -Errno.EOPNOTSUPP ? "switched off at boot" : abi > 0 ? `ABI ${abi} is too old` : errnoName(-abi);
  const remedy =
    abi === -Errno.EOPNOTSUPP
      ? "Boot with lsm=landlock,... before the list that is in use."
      : "Use Linux 5.19 or later with CONFIG_SECURITY_LANDLOCK=y.";
  return check("Landlock", "no", `${detail}: workers are held by the caller's own rights only`, remedy);
}

function proc(): Check {
  if (existsSync("/proc/self/fd")) return check("/proc", "ok", "mounted");
  return check(
    "/proc",
    "no",
    "not mounted: new files get temporary names, identities cannot be checked",
    "Mount it: mount -t proc proc /proc.",
  );
}

function openFiles(): Check {
  const limit = limitOf(RLIMIT_NOFILE);
  const detail = limit === Number.POSITIVE_INFINITY ? "unlimited" : `${limit} descriptors`;
  return limit >= 256 ? check("open files", "ok", detail) : check("open files", "no", detail, "Raise the limit: ulimit -n 1024.");
}

function limitOf(resource: number): number {
  using memory = new NativeMemory(layout.rlimit.size);
  if (libc.getrlimit(resource, memory.address) < 0) return 0;
  const [low = 0, high = 0] = memory.u32;
  return low === 0xffff_ffff && high === 0xffff_ffff ? Number.POSITIVE_INFINITY : low + high * 2 ** 32;
}

function check(name: string, verdict: Check["verdict"], detail: string, remedy = ""): Check {
  return { name, verdict, detail, remedy };
}
