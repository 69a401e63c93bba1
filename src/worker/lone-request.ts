// Whether a job is one small file that the worker's main thread may copy: by what was asked for, and by a look at the source.

import { layout } from "../ffi/layout.ts";
import { At, Mode } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import type { JobOptions } from "../request.ts";
import { maxLoneBytes, type ParentMessage } from "./protocol.ts";

type Considered<Options> = { readonly [Name in keyof Options]-?: (value: Options[Name]) => boolean };
/** It is about what this file is not, or about what stands at the destination already: then a lane does the job. */
const whatever = (): boolean => true;
const isFalse = (value: boolean): boolean => !value;

/** Which values of an option leave it a plain copy that neither waits nor asks. An option of which nothing is said here does not compile. */
const gnuAllows: Considered<JobOptions["gnu"]> = {
  names: whatever,
  inPlace: whatever,
  force: whatever,
  removeDestination: whatever,
  onlyOlder: whatever,
  askIfUnwritable: whatever,
  backup: whatever,
  backupSuffix: whatever,
  attributesOnly: isFalse,
  make: (make) => make === "copy",
  parents: isFalse,
  keepDirectorySymlink: whatever,
  followDanglingDestination: whatever,
  exchange: isFalse,
  noCopy: isFalse,
  copyContents: whatever,
  defaultMode: isFalse,
  required: whatever,
  reduceDiagnostics: whatever,
  verbose: isFalse,
  debug: isFalse,
};
const allows: Considered<JobOptions> = {
  onConflict: whatever,
  // See withholdsUntilOwned.
  preserve: (preserve) => preserve.includes("mode") || !preserve.includes("owner"),
  recursive: whatever,
  symlinks: whatever,
  specials: whatever,
  target: whatever,
  reflink: (reflink) => reflink !== "always",
  sparse: (sparse) => sparse !== "always",
  engine: (engine) => engine === "auto",
  verify: (verify) => verify === "none",
  manifest: (manifest) => manifest === "",
  // A flush takes as long as the device does.
  durability: (durability) => durability === "none",
  oneFileSystem: whatever,
  bandwidthLimit: (bytes) => bytes === 0,
  priority: whatever,
  onDisconnect: whatever,
  onError: whatever,
  onFull: whatever,
  onLost: whatever,
  cache: (cache) => cache === "keep",
  umask: whatever,
  renameMatch: (pattern) => pattern === "",
  renameReplace: whatever,
  include: (patterns) => patterns.length === 0,
  exclude: (patterns) => patterns.length === 0,
  maxFileSize: (bytes) => bytes === 0,
  gnu: (gnu) => fits(gnu, gnuAllows),
};

/** `start` with the policy that holds. What is true here is only worth a try: the copy itself looks again, at what it has opened. */
export function mayBeLone(start: Extract<ParentMessage, { type: "start" }>): boolean {
  const { request, policy = [], checkpoint, lanes, foreignLinks } = start;
  const isFresh = checkpoint === null || !checkpoint.isResumed;
  const isPlainJob = request.operation === "copy" && request.sources.length === 1 && foreignLinks !== "refuse";
  if (!isFresh || !isPlainJob || policy.length > 0 || lanes !== 0 || !fits(request.options, allows)) return false;
  return looksSmall(request.sources[0] ?? "");
}

function fits<Options>(options: Options, considered: Considered<Options>): boolean {
  for (const name in considered) if (!considered[name](options[name])) return false;
  return true;
}

function looksSmall(path: string): boolean {
  using arena = new Arena(8 * 1024);
  const stat = new Stat(arena.allocate(layout.statx.size));
  return stat.ofTarget(At.AT_FDCWD, arena.cstring(path)) === 0 && stat.type === Mode.S_IFREG && stat.size <= maxLoneBytes;
}
