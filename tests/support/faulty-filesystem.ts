// A FUSE filesystem over a directory that is slow or faulty as asked; faulty-filesystem.c, compiled on first use, does it.

import { existsSync } from "node:fs";
import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { compiledProgram } from "./compiled.ts";
import { havePrograms, run, runChecked } from "./process.ts";
import { unlessRoot } from "./skip.ts";
import { temporaryDirectory } from "./temporary.ts";

/** A call as FUSE has it: what looks at a name is getattr, closing is flush. The C file lists them all. */
export type FaultyOperation =
  | "getattr"
  | "readlink"
  | "mknod"
  | "mkdir"
  | "unlink"
  | "rmdir"
  | "symlink"
  | "rename"
  | "link"
  | "chmod"
  | "chown"
  | "truncate"
  | "open"
  | "create"
  | "read"
  | "write"
  | "statfs"
  | "flush"
  | "release"
  | "fsync"
  | "setxattr"
  | "getxattr"
  | "listxattr"
  | "removexattr"
  | "opendir"
  | "readdir"
  | "fsyncdir"
  | "utimens"
  | "fallocate"
  | "copy_file_range"
  | "lseek";

/** What goes wrong and when. Effects add up; a call must meet every condition. At most 64 rules. */
export interface FaultRule {
  readonly operations: readonly FaultyOperation[] | "all";

  /** The call fails: "EIO", "ENOSPC", ... */
  readonly errno?: string;
  /** A read or write moves at most so many bytes. The caller of a read sees it with `directIo` only. */
  readonly shortBytes?: number;
  /** getattr says this size; "+100" or "-100": so much more or less than the true one. With `cacheMs: 0` it changes at once. */
  readonly size?: number | `+${number}` | `-${number}`;
  /** The byte at this offset is read with its lowest bit flipped. */
  readonly flipOffset?: number;
  readonly delayMs?: number;

  /** A glob for the path from the root, as "/dir/*"; * matches slashes too, and no blanks are possible. */
  readonly path?: string;
  /** Reads, writes, preallocations and ranges that touch a byte from `from` to `to`, which is exclusive. */
  readonly from?: number;
  readonly to?: number;
  /** Not the first so many matching calls, counted over all files. */
  readonly after?: number;
  /** Of the rest, each so manieth. */
  readonly every?: number;
  /** Of those, only the first so many. */
  readonly times?: number;
}

export interface FaultyFilesystemOptions {
  /** The directory that is seen through it. */
  readonly directory: string;
  /** Every call that a caller waits for takes so much longer; calls wait side by side, as behind a network. */
  readonly delayMs?: number;
  /** Reads and writes bypass the page cache. */
  readonly directIo?: boolean;
  /** For how long the kernel may believe names and attributes (1000). */
  readonly cacheMs?: number;
  readonly rules?: readonly FaultRule[];
}

export interface FaultyFilesystem extends AsyncDisposable {
  /** Where it is mounted; every user may enter, the kernel checks permissions. */
  readonly path: string;
  /** Replaces the rules; counting starts anew. Holds for every call that begins after it has resolved. */
  setRules(rules: readonly FaultRule[]): Promise<void>;
  /** What was injected so far: "read errno 4096 /name" (operation, effect, offset, path), in order. */
  injected(): Promise<string[]>;
}

/** So many calls may be under way at once. */
const threads = 128;
const startTimeoutMs = 20_000;
const sourceFile = join(import.meta.dir, "faulty-filesystem.c");

/** Why there can be none here, or null: for testUnless. */
export function whyNoFaultyFilesystem(): string | null {
  const reason = unlessRoot();
  if (reason !== null) return `${reason} to mount FUSE`;
  if (!existsSync("/dev/fuse")) return "there is no /dev/fuse";
  if (!havePrograms("gcc") || !existsSync("/usr/include/fuse3/fuse.h")) return "gcc or libfuse3-dev is not installed";
  return null;
}

/** Mounts one; dispose unmounts it, also when it is busy, and leaves the directory below as it is. */
export async function mountFaultyFilesystem(options: FaultyFilesystemOptions): Promise<FaultyFilesystem> {
  const program = await compiledProgram(sourceFile, ["-D_FILE_OFFSET_BITS=64", "-I/usr/include/fuse3"], ["-lfuse3", "-lpthread"]);
  const temporary = await temporaryDirectory();
  const [path, rulesFile, logFile] = ["mount", "rules", "log"].map((name) => join(temporary.path, name)) as [string, string, string];
  try {
    await mkdir(path);
    await runChecked(["chmod", "755", temporary.path]);
    await Bun.write(rulesFile, rulesText(options.rules ?? []));
    const settings = [
      `rules=${rulesFile}`,
      `log=${logFile}`,
      `delay_us=${Math.round((options.delayMs ?? 0) * 1000)}`,
      `cache_ms=${options.cacheMs ?? 1000}`,
      ...(options.directIo === true ? ["direct_io"] : []),
      `max_threads=${threads},max_idle_threads=${threads}`,
      "allow_other,default_permissions,fsname=copyd-faulty",
    ];
    const server = Bun.spawn([program, options.directory, path, "-f", "-o", settings.join(",")], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    });
    const end = async (): Promise<void> => {
      await run(["umount", path]);
      await run(["umount", "--lazy", path]);
      // It ends by itself once it is unmounted; a call that hangs in it would keep it.
      const timer = setTimeout(() => server.kill("SIGKILL"), 2000);
      await server.exited;
      clearTimeout(timer);
      await temporary[Symbol.asyncDispose]();
    };
    try {
      await untilMounted(path, server);
    } catch (error) {
      server.kill("SIGKILL");
      await end();
      throw error;
    }
    return {
      path,
      async setRules(rules) {
        await Bun.write(`${rulesFile}.new`, rulesText(rules));
        await rename(`${rulesFile}.new`, rulesFile);
      },
      async injected() {
        if (!existsSync(logFile)) return [];
        return (await Bun.file(logFile).text()).split("\n").filter((line) => line !== "");
      },
      [Symbol.asyncDispose]: end,
    };
  } catch (error) {
    await temporary[Symbol.asyncDispose]();
    throw error;
  }
}

async function untilMounted(path: string, server: Bun.Subprocess<"ignore", "ignore", "pipe">): Promise<void> {
  const deadline = performance.now() + startTimeoutMs;
  while (!(await Bun.file("/proc/self/mounts").text()).includes(` ${path} fuse`)) {
    if (server.exitCode !== null) throw new Error(`the faulty filesystem did not start: ${await new Response(server.stderr).text()}`);
    if (performance.now() > deadline) throw new Error(`the faulty filesystem was not mounted within ${startTimeoutMs} ms`);
    await Bun.sleep(5);
  }
}

/** The rules as the program reads them. */
function rulesText(rules: readonly FaultRule[]): string {
  return rules.map((rule) => `${ruleLine(rule)}\n`).join("");
}

function ruleLine(rule: FaultRule): string {
  if (/\s/.test(rule.path ?? "")) throw new Error(`a rule's path may hold no blanks: ${rule.path}`);
  const words: readonly (readonly [string, string | number | undefined])[] = [
    ["errno", rule.errno],
    ["short", rule.shortBytes],
    ["size", rule.size],
    ["flip", rule.flipOffset],
    ["delay_us", rule.delayMs === undefined ? undefined : Math.round(rule.delayMs * 1000)],
    ["name", rule.path],
    ["from", rule.from],
    ["to", rule.to],
    ["after", rule.after],
    ["every", rule.every],
    ["times", rule.times],
  ];
  const operations = rule.operations === "all" ? "*" : rule.operations.join(",");
  return [operations, ...words.flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${value}`]))].join(" ");
}
