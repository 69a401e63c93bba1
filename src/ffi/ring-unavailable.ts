// Why there is no io_uring here: each cause told apart, in a sentence with its remedy.

import { Errno, errnoName, errnoText } from "../errno.ts";
import { constants } from "./layout.ts";
import { readText } from "./read-text.ts";

export type RingUnavailableReason =
  | "no-liburing"
  | "old-kernel"
  | "not-built-in"
  | "sysctl-privileged-only"
  | "sysctl-disabled"
  | "seccomp"
  | "security-module"
  | "memory"
  | "descriptors"
  | "other";

/** A value, not an error: the other engines serve. */
export interface RingUnavailable {
  readonly available: false;
  readonly reason: RingUnavailableReason;
  /** Positive errno of io_uring_setup(2), or 0 where it was never called. */
  readonly errno: number;
  /** One sentence: what is missing. */
  readonly message: string;
  /** One sentence: what somebody can do about it. */
  readonly remedy: string;
}

/** What tells the causes of one errno apart; read from /proc unless a test says otherwise. */
export interface KernelFacts {
  /** "6.1.0-13-amd64" */
  readonly release: string;
  /** kernel.io_uring_disabled: 0, 1 or 2; null where the kernel (before 6.6) does not have it. */
  readonly disabled: number | null;
  /** A seccomp filter is on this process. */
  readonly seccompFilter: boolean;
  readonly privileged: boolean;
}

export function readKernelFacts(disabledFile = "/proc/sys/kernel/io_uring_disabled", statusFile = "/proc/self/status"): KernelFacts {
  const status = readText(statusFile) ?? "";
  const disabled = readText(disabledFile);
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? "0"}`);
  return {
    release: process.getBuiltinModule("node:os").release(),
    disabled: disabled === null ? null : Number(disabled.trim()),
    seccompFilter: /^Seccomp:\s*2$/m.test(status),
    privileged: ((effective >> BigInt(constants.capabilities.CAP_SYS_ADMIN)) & 1n) === 1n,
  };
}

export function withoutLiburing(message: string): RingUnavailable {
  return unavailable(
    "no-liburing",
    0,
    `liburing.so.2 could not be loaded: ${message}`,
    "Install liburing 2.3 or later (Debian: liburing2).",
  );
}

/** The kernel made a ring that lacks something copyd relies on: a time-out for waiting (5.11), completions that are never dropped. */
export function tooOld(facts: KernelFacts): RingUnavailable {
  return unavailable("old-kernel", 0, `Linux ${facts.release} has an io_uring older than 5.11.`, "Use Linux 5.11 or later.");
}

/** What io_uring_setup(2)'s errno (positive) means on this machine. */
export function whyNoRing(errno: number, facts: KernelFacts): RingUnavailable {
  switch (errno) {
    case Errno.ENOSYS:
      return absent(facts);
    case Errno.EPERM:
    case Errno.EACCES:
      return forbidden(errno, facts);
    case Errno.ENOMEM:
      return unavailable(
        "memory",
        errno,
        "The kernel had no memory for the ring, or the limit of locked memory is used up (kernels before 5.12 count rings).",
        "Raise the limit (ulimit -l, or LimitMEMLOCK= in the unit).",
      );
    case Errno.EMFILE:
    case Errno.ENFILE:
      return unavailable(
        "descriptors",
        errno,
        `No descriptor for a ring: ${errnoText(errno)}.`,
        "Raise the limit of open files (ulimit -n).",
      );
    default:
      return unavailable("other", errno, `io_uring_setup failed: ${errnoName(errno)}, ${errnoText(errno)}.`, "Look at the kernel's log.");
  }
}

function absent(facts: KernelFacts): RingUnavailable {
  if (olderThan(facts.release, 5, 1)) {
    return unavailable("old-kernel", Errno.ENOSYS, `Linux ${facts.release} has no io_uring: it came with 5.1.`, "Use Linux 5.11 or later.");
  }
  if (facts.seccompFilter) return seccomp(Errno.ENOSYS);
  return unavailable(
    "not-built-in",
    Errno.ENOSYS,
    `Linux ${facts.release} was built without io_uring, or hides it.`,
    "Use a kernel with CONFIG_IO_URING=y.",
  );
}

function forbidden(errno: number, facts: KernelFacts): RingUnavailable {
  if (facts.disabled === 2) {
    return unavailable(
      "sysctl-disabled",
      errno,
      "io_uring is switched off for everybody (kernel.io_uring_disabled is 2).",
      "An administrator may allow it: sysctl kernel.io_uring_disabled=0.",
    );
  }
  if (facts.disabled === 1 && !facts.privileged) {
    return unavailable(
      "sysctl-privileged-only",
      errno,
      "io_uring is for privileged processes and one group only (kernel.io_uring_disabled is 1).",
      "An administrator may allow it: sysctl kernel.io_uring_disabled=0, or the group of kernel.io_uring_group.",
    );
  }
  if (facts.seccompFilter) return seccomp(errno);
  return unavailable(
    "security-module",
    errno,
    `io_uring is forbidden (${errnoName(errno)}), neither by the sysctl nor by a seccomp filter of this process.`,
    "Ask the administrator which security module (SELinux, AppArmor) forbids it.",
  );
}

function seccomp(errno: number): RingUnavailable {
  return unavailable(
    "seccomp",
    errno,
    `A seccomp filter forbids io_uring (${errnoName(errno)}), as containers' default profiles do.`,
    "Allow io_uring_setup, io_uring_enter and io_uring_register in the container's or unit's filter.",
  );
}

function unavailable(reason: RingUnavailableReason, errno: number, message: string, remedy: string): RingUnavailable {
  return { available: false, reason, errno, message, remedy };
}

function olderThan(kernel: string, major: number, minor: number): boolean {
  const [, ownMajor = "0", ownMinor = "0"] = /^(\d+)\.(\d+)/.exec(kernel) ?? [];
  return Number(ownMajor) < major || (Number(ownMajor) === major && Number(ownMinor) < minor);
}
