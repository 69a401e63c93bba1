// Landlock: the kernel's sandbox that a process puts on itself (landlock(7)), by raw system calls; glibc has no wrappers.
//
// What it mediates: opening files and directories, making, linking, renaming and removing names, truncating, ioctl on devices,
// executing; with newer ABIs TCP, signals and abstract sockets. What it does not: path lookup, stat, readlink, O_PATH, chmod,
// chown, utimes, xattrs, and whatever was opened before. It answers EACCES, and EXDEV where a link or rename to another
// directory is not allowed (REFER lacking, or the file would gain rights there).

import { assert } from "../assert.ts";
import { layout } from "./layout.ts";
import { libc, syscallNumbers } from "./libc.ts";
import { NativeMemory } from "./memory.ts";

/** LANDLOCK_ACCESS_FS_*: numbers of the kernel's interface, here because Debian 12's header ends at REFER. */
export const Access = {
  EXECUTE: 1 << 0,
  WRITE_FILE: 1 << 1,
  READ_FILE: 1 << 2,
  READ_DIR: 1 << 3,
  REMOVE_DIR: 1 << 4,
  REMOVE_FILE: 1 << 5,
  MAKE_CHAR: 1 << 6,
  MAKE_DIR: 1 << 7,
  MAKE_REG: 1 << 8,
  MAKE_SOCK: 1 << 9,
  MAKE_FIFO: 1 << 10,
  MAKE_BLOCK: 1 << 11,
  MAKE_SYM: 1 << 12,
  REFER: 1 << 13,
  TRUNCATE: 1 << 14,
  IOCTL_DEV: 1 << 15,
} as const;

/** The rights a rule on something that is no directory may hold; others there are EINVAL. */
export const fileAccess = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV;

const createRulesetVersion = 1;
const createRulesetErrata = 2;
const pathBeneathRule = 1;
const PR_SET_NO_NEW_PRIVS = 38;
const bindAndConnectTcp = 3;
const scopeAbstractSocket = 1;
const scopeSignal = 2;
/** Erratum 2 (fixed in 6.15 and stable kernels): signals between threads of one process passed for foreign ones. */
const signalErratum = 1 << 1;

/** The kernel's ABI version, 1 and up; 0 or less: none (-ENOSYS: not built in; -EOPNOTSUPP: switched off at boot; else forbidden). */
export function landlockAbi(): number {
  return libc.syscall(syscallNumbers.landlock_create_ruleset, 0, 0, createRulesetVersion);
}

/** Every file system right that an ABI knows: all are handled, so that what no rule allows is denied. */
export function accessOfAbi(abi: number): number {
  if (abi < 1) return 0;
  let access = Access.REFER - 1;
  if (abi >= 2) access |= Access.REFER;
  if (abi >= 3) access |= Access.TRUNCATE;
  if (abi >= 5) access |= Access.IOCTL_DEV;
  return access;
}

/** What else a ruleset of an ABI holds back: no TCP from ABI 4, no abstract sockets and signals out of the sandbox from ABI 6. */
export function restrictionsOfAbi(abi: number, errata: number): { readonly network: number; readonly scoped: number } {
  return {
    network: abi >= 4 ? bindAndConnectTcp : 0,
    // JavaScriptCore stops threads by signals for its collector, those too that were started before the sandbox.
    scoped: abi >= 6 ? scopeAbstractSocket | ((errata & signalErratum) === 0 ? 0 : scopeSignal) : 0,
  };
}

/** A ruleset in the making: everything is denied that is not allowed here. */
export class Ruleset {
  private readonly fd: number;
  private readonly handled: number;
  private readonly memory: NativeMemory;

  /** `abi` as landlockAbi() says, or lower. A Ruleset or -errno. */
  static create(abi: number): Ruleset | number {
    assert(abi >= 1, "a ruleset needs Landlock");
    const memory = new NativeMemory(4096);
    const restrictions = restrictionsOfAbi(abi, landlockErrata());
    const handled = accessOfAbi(abi);
    // struct landlock_ruleset_attr: three 64-bit masks; the second came with ABI 4, the third with ABI 6.
    memory.u32[0] = handled;
    memory.u32[2] = restrictions.network;
    memory.u32[4] = restrictions.scoped;
    const size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    const fd = libc.syscall(syscallNumbers.landlock_create_ruleset, memory.address, size, 0);
    if (fd >= 0) return new Ruleset(fd, handled, memory);
    memory[Symbol.dispose]();
    return fd;
  }

  private constructor(fd: number, handled: number, memory: NativeMemory) {
    this.fd = fd;
    this.handled = handled;
    this.memory = memory;
  }

  /** Allows `access` (less what the ABI does not know) on what `fd` is open on, and on everything below it. 0 or -errno. */
  allow(fd: number, access: number): number {
    const attribute = layout.landlock_path_beneath_attr;
    this.memory.u32[attribute.allowed_access / 4] = access & this.handled;
    this.memory.u32[attribute.allowed_access / 4 + 1] = 0;
    this.memory.u32[attribute.parent_fd / 4] = fd;
    return libc.syscall(syscallNumbers.landlock_add_rule, this.fd, pathBeneathRule, this.memory.address, 0);
  }

  /**
   * Confines the calling thread, and every thread and process it starts from now on, for good; sets no_new_privs, which the
   * kernel asks for. Threads that exist already are not confined. 0 or -errno (E2BIG: 16 sandboxes inside each other).
   */
  restrictThread(): number {
    const privileges = libc.prctl(PR_SET_NO_NEW_PRIVS, 1);
    return privileges < 0 ? privileges : libc.syscall(syscallNumbers.landlock_restrict_self, this.fd, 0);
  }

  [Symbol.dispose](): void {
    libc.close(this.fd);
    this.memory[Symbol.dispose]();
  }
}

/** Bugs of the running kernel that are fixed, as a mask; 0 where it cannot say. */
function landlockErrata(): number {
  return Math.max(0, libc.syscall(syscallNumbers.landlock_create_ruleset, 0, 0, createRulesetErrata));
}
