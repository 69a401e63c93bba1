// `copyd worker --verify`: checks files against a manifest, reading them off the medium, and prints what it finds as JSON lines.
//
// A process of its own, since only workers load FFI. What to check comes as one JSON object on standard input.

import { closeSync, openSync, readSync } from "node:fs";
import { FileHasher } from "../engines/file-hasher.ts";
import { type HashMethod, loadHash } from "../engines/hash.ts";
import { ReadBack, type ReadBackWay } from "../engines/read-back.ts";
import { Errno, errnoText } from "../errno.ts";
import { type FailureCode, failureCodeOf } from "../errors.ts";
import { layout } from "../ffi/layout.ts";
import { At, libc, Mode, Open } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import { BeneathOpener } from "../tree/open.ts";
import { parseManifestLine } from "./manifest.ts";
import { writeWhole } from "./write-whole.ts";

export interface VerifyTask {
  /** Absolute byte strings; what the manifest names is looked for in `directory`. */
  readonly manifest: string;
  readonly directory: string;
  /** Of lines that do not say theirs; null: by the digest's length, and whichever fits the file. */
  readonly method: HashMethod | null;
}

/** Names are byte strings. */
export type VerifyReport =
  | {
      readonly type: "file";
      readonly name: string;
      readonly method: HashMethod;
      readonly code: FailureCode | null;
      readonly problem: string;
    }
  | { readonly type: "odd"; readonly line: number; readonly problem: string }
  | { readonly type: "progress"; readonly bytes: number; readonly files: number; readonly name: string }
  | { readonly type: "end"; readonly bytes: number; readonly files: number; readonly ways: readonly ReadBackWay[] }
  /** The manifest or the directory cannot be read: nothing was done. */
  | { readonly type: "failed"; readonly path: string; readonly errno: number };

/** A path of a tree that copyd made may be longer than PATH_MAX; no line of a manifest is longer than this. */
const maxLineBytes = 1024 * 1024;
const progressMs = 100;
const flushBytes = 64 * 1024;

export async function printVerification(): Promise<number> {
  const task = JSON.parse(await Bun.stdin.text()) as VerifyTask;
  using check = new ManifestCheck(task);
  await check.run();
  return 0;
}

class ManifestCheck {
  private readonly task: VerifyTask;
  private readonly hashers = new Map<HashMethod, FileHasher>();
  private readonly opener = new BeneathOpener();
  private readonly arena = new Arena(16 * 1024);
  private readonly stat = new Stat(this.arena.allocate(layout.statx.size));
  private readonly empty = this.arena.cstring("");
  private readonly ways = new Set<ReadBackWay>();
  private readonly readBack = new ReadBack((bytes) => this.advanced(bytes));
  private directoryFd = -1;
  private name = "";
  private bytes = 0;
  private files = 0;
  private lineNumber = 0;
  private latestMethod: HashMethod = "sha256";
  private output = "";
  private nextProgressMs = 0;

  constructor(task: VerifyTask) {
    this.task = task;
  }

  async run(): Promise<void> {
    const { manifest, directory } = this.task;
    this.directoryFd = this.opener.openFollowing(At.AT_FDCWD, directory, Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC);
    if (this.directoryFd < 0) this.print({ type: "failed", path: directory, errno: -this.directoryFd });
    else await this.checkAll(manifest);
    this.flush();
  }

  [Symbol.dispose](): void {
    if (this.directoryFd >= 0) libc.close(this.directoryFd);
    for (const hasher of this.hashers.values()) hasher[Symbol.dispose]();
    this.opener[Symbol.dispose]();
    this.readBack[Symbol.dispose]();
    this.arena[Symbol.dispose]();
  }

  private async checkAll(manifest: string): Promise<void> {
    try {
      for (const line of linesOf(manifest)) await this.checkLine(line);
      this.print({ type: "end", bytes: this.bytes, files: this.files, ways: [...this.ways] });
    } catch (cause) {
      const errno = cause instanceof Error && "errno" in cause ? Math.abs(Number(cause.errno)) : 0;
      if (errno === 0) throw cause;
      this.print({ type: "failed", path: manifest, errno });
    }
  }

  private async checkLine(text: string | null): Promise<void> {
    this.lineNumber++;
    const line =
      text === null
        ? ({ kind: "odd", problem: `it is longer than ${maxLineBytes} bytes` } as const)
        : parseManifestLine(text, this.task.method);
    if (line.kind === "odd") this.print({ type: "odd", line: this.lineNumber, problem: line.problem });
    if (line.kind !== "file") return;
    const { name, digest } = line;
    this.name = name;
    this.files++;
    // What the last such file was comes first: only a file that is wrong is read twice.
    const methods = line.methods.toSorted((one, other) => Number(other === this.latestMethod) - Number(one === this.latestMethod));
    let method = methods[0] ?? line.methods[0];
    let found: string | number | null = null;
    for (const each of methods) {
      found = this.digestOf(name, await this.hasherFor(each));
      if (found === digest) method = each;
      if (found === digest || typeof found !== "string") break;
    }
    if (found === digest) this.latestMethod = method;
    if (typeof found === "number") {
      // A checksum of the filesystem that does not fit is a mismatch that somebody else found.
      const code = found === Errno.EIO ? "verify-mismatch" : failureCodeOf(found, "source");
      this.print({ type: "file", name, method, code, problem: errnoText(found) });
    } else if (found === null) {
      this.print({ type: "file", name, method, code: "source-special", problem: "not a regular file" });
    } else {
      const isSame = found === digest;
      this.print({ type: "file", name, method, code: isSame ? null : "verify-mismatch", problem: isSame ? "" : "it does not match" });
    }
  }

  /** The digest in hexadecimal, an errno, or null for what is no regular file. */
  private digestOf(name: string, hasher: FileHasher): string | number | null {
    const from = name.startsWith("/") ? At.AT_FDCWD : this.directoryFd;
    const flags = Open.O_RDONLY | Open.O_NOCTTY | Open.O_NONBLOCK;
    // As the sum programs: a manifest may well name what lies behind a link.
    const quiet = this.opener.openFollowing(from, name, flags | Open.O_NOATIME);
    const fd = quiet === -Errno.EPERM ? this.opener.openFollowing(from, name, flags) : quiet;
    if (fd < 0) return -fd;
    try {
      const status = this.stat.ofDescriptor(fd, this.empty);
      if (status < 0) return -status;
      if (this.stat.type !== Mode.S_IFREG) return null;
      hasher.begin(this.stat.size);
      const read = this.readBack.read(fd, this.stat.size, hasher);
      if (read === null || read < 0) return read === null ? Errno.EINTR : -read;
      if (read > 0) this.ways.add(this.readBack.way);
      return Buffer.from(hasher.digest.subarray(0, hasher.digestBytes)).toString("hex");
    } finally {
      libc.close(fd);
    }
  }

  private async hasherFor(method: HashMethod): Promise<FileHasher> {
    let hasher = this.hashers.get(method);
    if (hasher === undefined) {
      hasher = new FileHasher(await loadHash(method), () => true);
      this.hashers.set(method, hasher);
    }
    return hasher;
  }

  private advanced(bytes: number): boolean {
    this.bytes += bytes;
    const nowMs = performance.now();
    if (nowMs < this.nextProgressMs) return true;
    this.nextProgressMs = nowMs + progressMs;
    this.print({ type: "progress", bytes: this.bytes, files: this.files, name: this.name });
    this.flush();
    return true;
  }

  private print(report: VerifyReport): void {
    this.output += `${JSON.stringify(report)}\n`;
    if (this.output.length > flushBytes) this.flush();
  }

  /** Blocking, so that a slow reader slows the check down instead of filling the memory. */
  private flush(): void {
    writeWhole(1, Buffer.from(this.output, "utf8"));
    this.output = "";
  }
}

/** The lines of a file as byte strings without their ends; null for one that is too long. */
function* linesOf(path: string): Generator<string | null> {
  const fd = openSync(Buffer.from(path, "latin1"), "r");
  try {
    const chunk = Buffer.alloc(64 * 1024);
    let pending = "";
    let isTooLong = false;
    for (let length = readSync(fd, chunk); length > 0; length = readSync(fd, chunk)) {
      const pieces = (pending + chunk.toString("latin1", 0, length)).split("\n");
      pending = pieces.pop() ?? "";
      for (const piece of pieces) {
        yield isTooLong ? null : piece;
        isTooLong = false;
      }
      if (pending.length > maxLineBytes) {
        isTooLong = true;
        pending = "";
      }
    }
    if (isTooLong || pending !== "") yield isTooLong ? null : pending;
  } finally {
    closeSync(fd);
  }
}
