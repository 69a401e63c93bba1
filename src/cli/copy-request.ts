// A command line of cp or mv -> the job it asks for, with GNU's defaults where they differ from the service's.

import type { ByteString } from "../bytes.ts";
import type { AlsoTo } from "../jobs/api.ts";
import type { MessageCharset } from "../quote.ts";
import type { ConflictPolicy, JobRequest, PreserveAttribute } from "../request.ts";
import type { CopyCommand } from "./copy-options.ts";
import type { Settings } from "./copy-settings.ts";
import type { Attribute } from "./copy-tables.ts";
import { absolutePath } from "./paths.ts";

/** What a request takes from the process beyond its arguments. */
export interface CallerContext {
  /** null: deleted. */
  readonly workingDirectory: ByteString | null;
  readonly umask: number;
  readonly charset: MessageCharset;
  /** Running as root, so that a file that cannot be given to its owner is an error. */
  readonly privileged: boolean;
  readonly stdinIsTerminal: boolean;
}

/** The job of this command. */
export function requestOf(command: CopyCommand, caller: CallerContext): JobRequest {
  const { program, settings } = command;
  const preserve = preserveOf(settings);
  const move = program === "mv";
  return {
    operation: move ? "move" : "copy",
    sources: command.sources.map((source) => absolutePath(source, caller.workingDirectory)),
    destination: absolutePath(command.destination, caller.workingDirectory),
    options: {
      onConflict: conflictPolicyOf(settings),
      preserve,
      recursive: settings.recursive,
      symlinks: settings.dereference === "always" ? "follow" : settings.dereference === "arguments" ? "follow-arguments" : "copy",
      specials: settings.recursive && !settings.copyContents,
      target: command.target,
      reflink: settings.reflink,
      sparse: settings.sparse,
      engine: settings.engine,
      verify: settings.verify,
      manifest: settings.manifest === "" ? settings.manifest : absolutePath(settings.manifest, caller.workingDirectory),
      durability: settings.durability,
      oneFileSystem: settings.oneFileSystem,
      bandwidthLimit: settings.limitRate,
      priority: "normal",
      // Nobody else waits for what a cp that was killed would still have copied.
      onDisconnect: "cancel",
      onError: "continue",
      onFull: settings.onFull,
      onLost: settings.onLost,
      cache: settings.cache,
      umask: caller.umask,
      renameMatch: "",
      renameReplace: "",
      include: [],
      exclude: [],
      maxFileSize: 0,
      gnu: {
        names: { program, sources: [...command.sources], destination: command.destination, charset: caller.charset },
        // cp writes into the existing inode; mv, whose contract is rename's, puts a new one in its place. So do administrators' copies:
        // the existing name may be a link that somebody else made.
        inPlace: !move && !settings.admin,
        force: settings.force,
        removeDestination: settings.removeDestination,
        onlyOlder: settings.update === "older" && settings.interactive === "ask",
        askIfUnwritable: move && settings.interactive === null && caller.stdinIsTerminal,
        backup: settings.backup,
        backupSuffix: settings.backupSuffix,
        attributesOnly: settings.attributesOnly,
        make: settings.hardLink ? "hard-link" : settings.symbolicLink ? "symbolic-link" : "copy",
        parents: settings.parents,
        keepDirectorySymlink: settings.keepDirectorySymlink,
        followDanglingDestination: settings.followDanglingDestination,
        exchange: settings.exchange,
        noCopy: settings.noCopy,
        copyContents: !settings.recursive || settings.copyContents,
        defaultMode: settings.defaultMode,
        required: requiredOf(preserve, settings, caller),
        reduceDiagnostics: settings.reduceDiagnostics,
        verbose: settings.verbose,
        debug: settings.debug,
      },
    },
  };
}

/** Its further destinations. */
export function alsoToOf({ settings }: CopyCommand, { workingDirectory }: Pick<CallerContext, "workingDirectory">): AlsoTo[] {
  return settings.also.map((typed) => ({ destination: absolutePath(typed, workingDirectory), typed }));
}

function conflictPolicyOf({ update, interactive }: Settings): ConflictPolicy {
  // -n and --update=none come before -i, as in coreutils.
  if (update === "none") return "skip";
  if (update === "none-fail") return "fail";
  if (interactive === "ask") return "ask";
  return update === "older" ? "newer" : "overwrite";
}

const attributesOf: Readonly<Record<Attribute, readonly PreserveAttribute[]>> = {
  mode: ["mode", "acl"],
  timestamps: ["times"],
  ownership: ["owner"],
  links: ["hardlinks"],
  // Where there is SELinux, the context is the extended attribute security.selinux.
  context: [],
  xattr: ["xattr"],
};

function preserveOf({ preserve, dereference, sparse }: Settings): PreserveAttribute[] {
  const attributes = [...preserve].flatMap((attribute) => attributesOf[attribute]);
  if (dereference !== "always") attributes.push("links");
  if (sparse !== "never") attributes.push("sparse");
  return attributes;
}

function requiredOf(preserve: readonly PreserveAttribute[], settings: Settings, caller: CallerContext): PreserveAttribute[] {
  if (!settings.requirePreserve) return [];
  return preserve.filter((attribute) => {
    if (attribute === "xattr") return settings.requireXattr;
    // Only root can give files away; that others cannot is no news to them.
    if (attribute === "owner") return caller.privileged || settings.admin;
    return attribute === "mode" || attribute === "acl" || attribute === "times";
  });
}
