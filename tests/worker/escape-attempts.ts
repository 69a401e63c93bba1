// What a worker's thread tries that was taken over: one attempt of each kind to get out of its cage, as >= 0 or -errno. x86-64 only.

import type { ByteString } from "../../src/bytes.ts";
import { At, libc, Open } from "../../src/ffi/libc.ts";
import { Arena } from "../../src/ffi/memory.ts";
import type { Attempts } from "./sandbox-attempts.ts";
import { attemptAccess } from "./sandbox-attempts.ts";

export interface EscapeTargets {
  /** A directory that is none of the job's, and a file in it. */
  readonly directory: string;
  readonly file: string;
  /** The service, whose state is in a directory of root's. */
  readonly servicePid: number;
  readonly store: string;
  /** Another user's worker. */
  readonly otherPid: number;
  /** Where somebody outside listens, without the NUL before it. */
  readonly abstractSocket: string;
}

const SIGTERM = 15;
const [CLONE_NEWNS, CLONE_NEWNET] = [0x20000, 0x40000000];
const PTRACE_ATTACH = 16;
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const MS_BIND = 4096;
const capabilityVersion3 = 0x20080522;

export function attemptEscapes(targets: EscapeTargets): Attempts {
  using arena = new Arena(256 * 1024);
  const name = (text: string): number => arena.cstring(text as ByteString);
  const call = (number: number, ...rest: readonly number[]): number => libc.syscall(number, ...(rest as [number]));
  const opened = (fd: number): number => {
    if (fd >= 0) libc.close(fd);
    return Math.min(fd, 0);
  };
  const open = (path: string, flags: number = Open.O_RDONLY): number =>
    opened(libc.openat(At.AT_FDCWD, name(path), flags | Open.O_CLOEXEC, 0));
  const { directory, file, servicePid, otherPid, store } = targets;
  const away = libc.openat(At.AT_FDCWD, name(directory), Open.O_PATH | Open.O_CLOEXEC, 0);
  const found = libc.openat(At.AT_FDCWD, name(`${directory}/${file}`), Open.O_PATH | Open.O_CLOEXEC, 0);
  const { read, write, ringRead, ringWrite, create } = attemptAccess(directory, file);
  const attempts: Attempts = {
    read: read ?? 0,
    write: write ?? 0,
    ringRead: ringRead ?? 0,
    ringWrite: ringWrite ?? 0,
    create: create ?? 0,
  };
  // By what may be had without a right on it: a descriptor that only names it.
  attempts.reopenDirectory = away < 0 ? away : open(`/proc/self/fd/${away}/${file}`);
  attempts.reopenFile = found < 0 ? found : open(`/proc/self/fd/${found}`);
  attempts.openBelow = away < 0 ? away : opened(libc.openat(away, name(file), Open.O_RDONLY | Open.O_CLOEXEC, 0));
  attempts.throughOwnRoot = open(`/proc/self/root${directory}/${file}`);
  attempts.throughServiceRoot = open(`/proc/${servicePid}/root${directory}/${file}`);
  attempts.byHandle = openByHandle(directory, file, arena);
  attempts.store = open(store);
  attempts.storeFile = open(`${store}/jobs.db`, Open.O_RDWR);
  attempts.serviceMemory = open(`/proc/${servicePid}/mem`, Open.O_RDWR);
  attempts.serviceEnvironment = open(`/proc/${servicePid}/environ`);
  attempts.signalService = call(62, servicePid, SIGTERM);
  attempts.signalOther = call(62, otherPid, SIGTERM);
  attempts.pidfdSignal = byPidfd(servicePid, (fd) => call(424, fd, SIGTERM, 0, 0));
  attempts.pidfdDescriptor = byPidfd(servicePid, (fd) => opened(call(438, fd, 1, 0)));
  attempts.ptraceService = call(101, PTRACE_ATTACH, servicePid, 0, 0);
  attempts.ptraceOther = call(101, PTRACE_ATTACH, otherPid, 0, 0);
  attempts.mount = call(165, name(directory), name("/mnt"), 0, MS_BIND, 0);
  attempts.newMount = opened(call(430, name("tmpfs"), 0));
  attempts.unmount = call(166, name("/proc"), 0);
  attempts.chroot = call(161, name("/"));
  attempts.namespace = call(272, CLONE_NEWNS);
  attempts.network = call(272, CLONE_NEWNET);
  attempts.module = call(175, name(""), 0, name(""));
  attempts.swap = call(167, name(file), 0);
  attempts.abstractSocket = connectAbstract(targets.abstractSocket, arena);
  attempts.regainUid = regain(call);
  attempts.regainCapabilities = capset(arena, call);
  for (const fd of [away, found]) if (fd >= 0) libc.close(fd);
  return attempts;
}

/** Ids that are not this thread's: raw, since glibc would set those of all threads. */
function regain(call: (number: number, ...rest: readonly number[]) => number): number {
  const [setresuid, setresgid, setgroups] = [117, 119, 116];
  const results = [call(setresuid, 12345, 12345, 12345), call(setresgid, 12345, 12345, 12345), call(setgroups, 0, 0)];
  if ((process.getuid?.() ?? 0) !== 0) results.push(call(setresuid, 0, 0, 0), call(setresgid, 0, 0, 0));
  return Math.max(...results);
}

/** Every capability there is, from a thread that has few or none. */
function capset(arena: Arena, call: (number: number, ...rest: readonly number[]) => number): number {
  const header = arena.allocate(8);
  const data = arena.allocate(24);
  const words = arena.memory.u32;
  const at = (address: number): number => (address - arena.memory.address) / 4;
  words[at(header)] = capabilityVersion3;
  words[at(header) + 1] = 0;
  for (let index = 0; index < 6; index++) words[at(data) + index] = index % 3 === 2 ? 0 : 0xffff_ffff;
  return call(126, header, data);
}

function byPidfd(pid: number, use: (fd: number) => number): number {
  const fd = libc.syscall(434, pid, 0);
  if (fd < 0) return fd;
  const result = use(fd);
  libc.close(fd);
  return result;
}

/** name_to_handle_at and open_by_handle_at, which passes by the directories above: CAP_DAC_READ_SEARCH is all it takes. */
function openByHandle(directory: string, file: string, arena: Arena): number {
  const handle = arena.allocate(8 + 128);
  const mountId = arena.allocate(8);
  arena.memory.u32[(handle - arena.memory.address) / 4] = 128;
  const named = libc.syscall(303, At.AT_FDCWD, arena.cstring(`${directory}/${file}` as ByteString), handle, mountId, 0);
  if (named < 0) return named;
  const mount = libc.openat(At.AT_FDCWD, arena.cstring(directory as ByteString), Open.O_PATH | Open.O_CLOEXEC, 0);
  // An O_PATH descriptor does not do: one of a file that may be opened, on the same filesystem, does.
  const own = libc.openat(At.AT_FDCWD, arena.cstring("." as ByteString), Open.O_RDONLY | Open.O_DIRECTORY | Open.O_CLOEXEC, 0);
  const fd = libc.syscall(304, own >= 0 ? own : mount, handle, Open.O_RDONLY);
  for (const other of [fd, mount, own]) if (other >= 0) libc.close(other);
  return Math.min(fd, 0);
}

function connectAbstract(socketName: string, arena: Arena): number {
  const fd = libc.syscall(41, AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) return fd;
  const length = 2 + 1 + socketName.length;
  const address = arena.allocate(128);
  const at = address - arena.memory.address;
  arena.memory.bytes.fill(0, at, at + 128);
  arena.memory.bytes[at] = AF_UNIX;
  arena.memory.bytes.set(Buffer.from(socketName, "latin1"), at + 3);
  const result = libc.syscall(42, fd, address, length);
  libc.close(fd);
  return result;
}
