// THE failure table: every way copyd can fail, with its D-Bus name, severity, exit status, whether a retry can help, and advice.

import { Errno, errnoName, errnoText } from "./errno.ts";

export type Severity = "critical" | "high" | "medium" | "low";

export interface Failure {
  /** The D-Bus error name when the failure ends a call. Failures of the copy itself travel in Result and GetErrors. */
  readonly dbusName: string;
  readonly severity: Severity;
  /** The exit status of the CLI: 1 as GNU cp, 2 for misuse of the service, 130 for an interrupt. */
  readonly exitStatus: number;
  /** True when trying again, with backoff, may succeed without anybody changing anything. */
  readonly retryable: boolean;
  /** What a person can do about it. */
  readonly advice: string;
}

const own = (name: string): string => `org.copyd.Copyd1.Error.${name}`;
const bus = (name: string): string => `org.freedesktop.DBus.Error.${name}`;

function row(dbusName: string, severity: Severity, exitStatus: number, retryable: boolean, advice: string): Failure {
  return { dbusName, severity, exitStatus, retryable, advice };
}

export const failures = {
  // The source
  "source-not-found": row(
    own("BadPath"),
    "medium",
    1,
    false,
    "Check the spelling of the path; it may have been moved or deleted meanwhile.",
  ),
  "source-unreadable": row(bus("AccessDenied"), "medium", 1, false, "You may not read it: ask its owner, or copy as administrator."),
  "source-changed": row(
    own("CopyFailed"),
    "high",
    1,
    true,
    "The file was being written while it was copied: copy it again when nothing writes to it.",
  ),
  "source-is-directory": row(own("BadPath"), "medium", 1, false, "Use -r (recursive) to copy directories."),
  "source-mounted": row(own("CopyFailed"), "medium", 1, false, "Something is mounted there: unmount it first, or move what is in it."),
  "source-special": row(own("CopyFailed"), "medium", 1, false, "FIFOs, sockets and devices are recreated only when asked: use -a or -R."),
  "read-error": row(
    own("CopyFailed"),
    "critical",
    1,
    true,
    "The medium or the connection fails: check the kernel log, and save what can be read soon.",
  ),
  // The destination
  "destination-not-found": row(own("BadPath"), "medium", 1, false, "Create the destination's directory first."),
  "destination-not-directory": row(own("BadPath"), "medium", 1, false, "Several sources need a directory as their destination."),
  "destination-is-directory": row(
    own("BadPath"),
    "medium",
    1,
    false,
    "A directory stands where the file should go: choose another name or remove it.",
  ),
  "destination-unwritable": row(
    bus("AccessDenied"),
    "medium",
    1,
    false,
    "You may not write there: choose another destination or copy as administrator.",
  ),
  "destination-exists": row(
    own("CopyFailed"),
    "low",
    1,
    false,
    "Choose what to do with existing files: on-conflict=skip, overwrite, newer or rename.",
  ),
  "destination-changed": row(
    own("CopyFailed"),
    "high",
    1,
    false,
    "Somebody changed the destination during the copy: look at both files before copying again.",
  ),
  "dangling-symlink": row(
    own("BadPath"),
    "high",
    1,
    false,
    "The destination is a symbolic link to nothing: remove the link or create its target.",
  ),
  "read-only-filesystem": row(
    own("CopyFailed"),
    "high",
    1,
    false,
    "Mount the filesystem writable; if it became read-only by itself, check the disk.",
  ),
  // Not retryable: nothing frees space by itself. A job that may ask (on-full=ask) waits for it with a question instead.
  "no-space": row(own("NoSpace"), "high", 1, false, "Free space at the destination, then resume or copy again."),
  "space-low": row(
    own("NoSpace"),
    "medium",
    1,
    false,
    "Make room at the destination or leave something out; the copy goes on as far as there is room.",
  ),
  "quota-exceeded": row(own("NoSpace"), "high", 1, false, "Your quota is used up: delete files of yours there or ask the administrator."),
  "file-too-large": row(
    own("CopyFailed"),
    "high",
    1,
    false,
    "The destination's filesystem cannot hold a file of this size: use another filesystem.",
  ),
  "name-not-allowed": row(
    own("CopyFailed"),
    "medium",
    1,
    false,
    "The destination's filesystem does not allow this name: rename the source.",
  ),
  "name-too-long": row(own("BadPath"), "medium", 1, false, "A name may have 255 bytes: shorten it."),
  // Not retryable: the kernel may have dropped what was written before (rule 2). Reading again is safe, writing again is a guess.
  "write-error": row(
    own("CopyFailed"),
    "critical",
    1,
    false,
    "The medium or the connection fails: check the kernel log and use another destination.",
  ),
  "flush-failed": row(
    own("CopyFailed"),
    "critical",
    1,
    false,
    "The device reported that data was lost on its way: copy again to another device.",
  ),
  "too-many-links": row(
    own("CopyFailed"),
    "medium",
    1,
    false,
    "The filesystem limits hard links per file: copy without preserving hard links.",
  ),
  // Both
  "same-file": row(own("SameFile"), "medium", 1, false, "Source and destination are the same file: nothing was done."),
  "into-itself": row(own("SameFile"), "medium", 1, false, "A directory cannot be copied into itself: choose a destination outside it."),
  "path-escaped": row(
    own("CopyFailed"),
    "critical",
    1,
    false,
    "A directory was replaced by a link during the copy: find out who changed it, then copy again.",
  ),
  "foreign-symlink": row(own("BadPath"), "high", 1, false, "Name the path that the link leads to, or have root make the link."),
  "symlink-loop": row(own("BadPath"), "medium", 1, false, "The symbolic links of this path lead in a circle."),
  "stale-handle": row(own("CopyFailed"), "high", 1, true, "The network filesystem lost the file: check the server and copy again."),
  "device-gone": row(own("CopyFailed"), "critical", 1, true, "The device or connection went away: connect it again, then resume."),
  "timed-out": row(own("CopyFailed"), "high", 1, true, "The device or server did not answer in time: check it and try again."),
  "verify-mismatch": row(
    own("CopyFailed"),
    "critical",
    1,
    true,
    "What the medium holds is not what was written: do not trust this medium; copy to another.",
  ),
  "bad-manifest": row(
    own("CopyFailed"),
    "medium",
    1,
    false,
    "Lines are a digest, two spaces and a name, as sha256sum, md5sum or b3sum write them; --method says which digest it is.",
  ),
  "policy-denied": row(
    own("PolicyViolation"),
    "medium",
    1,
    false,
    "The administrator of this machine does not allow it ([policy] in copyd.conf(5)): ask for an exception, or copy something else.",
  ),
  // Metadata
  "owner-not-preserved": row(own("CopyFailed"), "low", 1, false, "Only root can give files away; copy as administrator to keep the owner."),
  "mode-not-preserved": row(own("CopyFailed"), "low", 1, false, "The destination's filesystem does not keep permissions."),
  "xattr-not-preserved": row(
    own("CopyFailed"),
    "low",
    1,
    false,
    "The destination does not hold extended attributes or ACLs: use another filesystem or --no-preserve=xattr.",
  ),
  "times-not-preserved": row(own("CopyFailed"), "low", 1, false, "The destination does not keep these times."),
  // Resources
  "too-many-open-files": row(
    bus("LimitsExceeded"),
    "high",
    1,
    true,
    "Raise the limit of open files (ulimit -n), or copy fewer things at once.",
  ),
  "out-of-memory": row(bus("NoMemory"), "high", 1, true, "Close other programs or give the service more memory."),
  "io-error": row(own("CopyFailed"), "critical", 1, false, "Check the kernel log for the device's errors."),
  "engine-unavailable": row(
    bus("NotSupported"),
    "medium",
    1,
    false,
    "Use engine=auto; `copyd doctor` says why this engine cannot serve here.",
  ),
  "not-supported": row(bus("NotSupported"), "medium", 1, false, "The filesystem does not support this; choose another option."),
  interrupted: row(own("CopyFailed"), "low", 1, true, "Try again."),
  // The job and its worker
  cancelled: row(own("Cancelled"), "low", 130, false, "The job was cancelled; its message says what became of finished files."),
  "worker-died": row(
    own("CopyFailed"),
    "critical",
    1,
    true,
    "The copying process ended unexpectedly: see the service's journal, then copy again.",
  ),
  "worker-out-of-memory": row(
    own("CopyFailed"),
    "high",
    1,
    true,
    "Copy fewer things at once (jobs.max-running), or allow more memory (limits.worker-memory, or MemoryMax of copyd.service), then copy again.",
  ),
  "worker-too-many-processes": row(
    own("CopyFailed"),
    "high",
    1,
    true,
    "Copy fewer things at once, or allow more processes (limits.worker-processes, or TasksMax of copyd.service), then copy again.",
  ),
  "worker-silent": row(
    own("CopyFailed"),
    "critical",
    1,
    true,
    "The copying process stopped answering, perhaps because of a hanging device: check it, then copy again.",
  ),
  "worker-protocol": row(
    own("CopyFailed"),
    "critical",
    1,
    false,
    "The copying process sent nonsense and was stopped: see the service's journal.",
  ),
  "worker-identity": row(
    own("CopyFailed"),
    "critical",
    1,
    false,
    "The copying process did not run as the caller and refused to work: see the service's journal.",
  ),
  "worker-start": row(own("CopyFailed"), "critical", 1, true, "The copying process could not be started: see the service's journal."),
  // Calls
  "invalid-arguments": row(bus("InvalidArgs"), "low", 2, false, "Compare the call with the interface's description (busctl introspect)."),
  "bad-path": row(own("BadPath"), "low", 2, false, "Paths are absolute byte arrays without NUL."),
  "unknown-option": row(own("UnknownOption"), "low", 2, false, "The Features property lists what this service knows."),
  "bad-option": row(bus("InvalidArgs"), "low", 2, false, "The message names the option and the values it takes."),
  "unknown-object": row(bus("UnknownObject"), "low", 2, false, "The job does not exist, is not yours or was forgotten."),
  "unknown-interface": row(bus("UnknownInterface"), "low", 2, false, "Introspect the object to see its interfaces."),
  "unknown-method": row(bus("UnknownMethod"), "low", 2, false, "Introspect the object to see its methods."),
  "unknown-property": row(bus("UnknownProperty"), "low", 2, false, "Introspect the object to see its properties."),
  "property-read-only": row(bus("PropertyReadOnly"), "low", 2, false, "This property cannot be set."),
  "no-such-job": row(own("NoSuchJob"), "low", 2, false, "`copyd jobs --all` lists your jobs."),
  "job-exists": row(own("JobExists"), "low", 2, false, "A job of yours with this token and other arguments exists: use another token."),
  "invalid-state": row(own("InvalidState"), "low", 2, false, "The job's state does not allow this now; see its State property."),
  "not-authorized": row(own("NotAuthorized"), "medium", 2, false, "An administrator must allow this (polkit)."),
  "authorization-required": row(
    bus("InteractiveAuthorizationRequired"),
    "low",
    2,
    false,
    "Ask where a password can be asked for: on a terminal or desktop, with the call allowing it (ALLOW_INTERACTIVE_AUTHORIZATION).",
  ),
  "access-denied": row(bus("AccessDenied"), "medium", 2, false, "The service could not establish who is calling, or does not allow it."),
  "sandboxed-caller": row(
    own("SandboxedCaller"),
    "medium",
    2,
    false,
    "The caller lives in another mount namespace: copy with `copyd cp --local`.",
  ),
  "limits-exceeded": row(
    bus("LimitsExceeded"),
    "medium",
    2,
    true,
    "Wait for other jobs to end or ask for less at once; the Limits property has the numbers.",
  ),
  "shutting-down": row(own("ShuttingDown"), "low", 2, true, "The service is stopping; the next call starts it again."),
  "no-service": row(bus("ServiceUnknown"), "medium", 2, true, "Install and start copyd, or use `copyd cp --local`."),
  "no-answer": row(bus("NoReply"), "high", 2, true, "It may have been done all the same: look with `copyd jobs --all` first."),
  "bad-config": row(own("BadConfig"), "high", 78, false, "Correct the file; the message names the key."),
  usage: row(bus("InvalidArgs"), "low", 1, false, "See --help."),
  internal: row(bus("Failed"), "critical", 70, false, "This is a bug in copyd: please report it with the journal's lines."),
} as const satisfies Record<string, Failure>;

export type FailureCode = keyof typeof failures;

export function isFailureCode(value: string): value is FailureCode {
  return Object.hasOwn(failures, value);
}

export interface FailureContext {
  readonly path?: string;
  readonly syscall?: string;
  /** Positive errno, when the kernel gave one. */
  readonly errno?: number;
  readonly offset?: number;
  readonly engine?: string;
}

/** The one error type above the engines. Its message is whole: what happened, to what, and why. */
export class CopyError extends Error {
  override readonly name = "CopyError";
  readonly code: FailureCode;
  readonly context: FailureContext;

  constructor(code: FailureCode, message: string, context: FailureContext = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.context = context;
  }

  get failure(): Failure {
    return failures[this.code];
  }

  get advice(): string {
    return failures[this.code].advice;
  }
}

export type FailureSide = "source" | "destination";

/** The failure code for an errno met on the source's or the destination's side. */
export function failureCodeOf(errno: number, side: FailureSide): FailureCode {
  const sided = side === "source" ? sourceCodes[errno] : destinationCodes[errno];
  return sided ?? commonCodes[errno] ?? "io-error";
}

/** Whether trying again may help against an errno met on this side, as the table says. */
export function isRetryable(errno: number, side: FailureSide): boolean {
  return failures[failureCodeOf(errno, side)].retryable;
}

/** "cannot open 'x': Permission denied", with the errno's name for the log. */
export function errnoMessage(what: string, errno: number): string {
  return `${what}: ${errnoText(errno)}`;
}

/** "openat: EACCES" for logs and details. */
export function syscallText(syscall: string, errno: number): string {
  return `${syscall}: ${errnoName(errno)}`;
}

const sourceCodes: Record<number, FailureCode> = {
  [Errno.ENOENT]: "source-not-found",
  [Errno.ENOTDIR]: "source-not-found",
  [Errno.EACCES]: "source-unreadable",
  [Errno.EPERM]: "source-unreadable",
  [Errno.EIO]: "read-error",
  [Errno.EREMOTEIO]: "read-error",
  [Errno.EUCLEAN]: "read-error",
  [Errno.EBADMSG]: "read-error",
  [Errno.EISDIR]: "source-is-directory",
};

const destinationCodes: Record<number, FailureCode> = {
  [Errno.ENOENT]: "destination-not-found",
  [Errno.ENOTDIR]: "destination-not-directory",
  [Errno.EISDIR]: "destination-is-directory",
  [Errno.EACCES]: "destination-unwritable",
  [Errno.EPERM]: "destination-unwritable",
  [Errno.EEXIST]: "destination-exists",
  [Errno.EROFS]: "read-only-filesystem",
  [Errno.EIO]: "write-error",
  [Errno.EREMOTEIO]: "write-error",
  [Errno.EUCLEAN]: "write-error",
  [Errno.EINVAL]: "name-not-allowed",
  [Errno.EILSEQ]: "name-not-allowed",
  [Errno.ENOTEMPTY]: "destination-exists",
};

const commonCodes: Record<number, FailureCode> = {
  [Errno.ENOSPC]: "no-space",
  [Errno.EDQUOT]: "quota-exceeded",
  [Errno.EFBIG]: "file-too-large",
  [Errno.EOVERFLOW]: "file-too-large",
  [Errno.ENAMETOOLONG]: "name-too-long",
  [Errno.EMLINK]: "too-many-links",
  [Errno.EXDEV]: "path-escaped",
  [Errno.ELOOP]: "symlink-loop",
  [Errno.ESTALE]: "stale-handle",
  [Errno.ENODEV]: "device-gone",
  [Errno.ENXIO]: "device-gone",
  [Errno.ENOMEDIUM]: "device-gone",
  [Errno.ENOTCONN]: "device-gone",
  [Errno.ESHUTDOWN]: "device-gone",
  [Errno.ETIMEDOUT]: "timed-out",
  [Errno.EHOSTDOWN]: "timed-out",
  [Errno.EHOSTUNREACH]: "timed-out",
  [Errno.EMFILE]: "too-many-open-files",
  [Errno.ENFILE]: "too-many-open-files",
  [Errno.ENOMEM]: "out-of-memory",
  [Errno.EOPNOTSUPP]: "not-supported",
  [Errno.ENOSYS]: "not-supported",
  [Errno.EINTR]: "interrupted",
  [Errno.EAGAIN]: "interrupted",
  [Errno.ECANCELED]: "cancelled",
  [Errno.EROFS]: "read-only-filesystem",
  [Errno.EIO]: "io-error",
};
