// The schema of a request, for what comes from outside: the bus, the store.

import { z } from "zod";
import { type ByteString, isByteString } from "./bytes.ts";
import { messageCharsets } from "./quote.ts";
import {
  conflictPolicies,
  durabilities,
  engineChoices,
  maxPathBytes,
  preserveAttributes,
  priorities,
  symlinkPolicies,
  troublePolicies,
  verifyMethods,
} from "./request.ts";

/** Largest file size and byte count that a JavaScript number holds exactly. */
const maxBytes = Number.MAX_SAFE_INTEGER;
const rateRefusal = `bytes a second are a whole number from 0 (no limit) to ${maxBytes}`;

export const byteStringSchema = z.custom<ByteString>(
  (value) => typeof value === "string" && isByteString(value),
  "not a byte string without NUL",
);

export const pathSchema = byteStringSchema.refine(
  (path) => path.startsWith("/") && path.length <= maxPathBytes,
  `not an absolute path of at most ${maxPathBytes} bytes`,
);

/**
 * The command line behind a job of `copyd cp` or `copyd mv`: what messages, -v lines and prompts must show. The worker opens
 * the request's absolute paths and prints these; below an argument it appends "/" and the names it walked through.
 */
export const namesSchema = z
  .object({
    program: z.enum(["cp", "mv"]),
    /** One for each of the request's sources, as typed (after --strip-trailing-slashes). --parents builds on these. */
    sources: z.array(byteStringSchema).min(1),
    /** As typed: the last operand, or -t's argument. */
    destination: byteStringSchema,
    /** For quoteName(): the locale of whoever reads the messages, which is not the worker's. */
    charset: z.enum(messageCharsets),
  })
  .strict();

/** What GNU cp's contract asks beyond the API's options; filled only by `copyd cp` and `copyd mv`. */
const gnuSchema = z
  .object({
    /** null: no command line; messages show absolute paths. */
    names: namesSchema.nullable().default(null),
    /** Overwrite an existing regular file in its inode, as cp does (false: replace it by a finished new file). */
    inPlace: z.boolean().default(false),
    /** -f of cp: where an existing destination cannot be opened, remove it and try again. */
    force: z.boolean().default(false),
    removeDestination: z.boolean().default(false),
    /** -u together with -i (on-conflict=ask): skip what is not older than its source without a question, ask about the rest. */
    onlyOlder: z.boolean().default(false),
    /** mv with neither -f nor -n nor -i, stdin being a terminal: ask before replacing what the caller may not write. */
    askIfUnwritable: z.boolean().default(false),
    backup: z.enum(["none", "simple", "numbered", "existing"]).default("none"),
    /** Else the old file would lose its name to the new one, or the backup lie wherever the suffix leads. */
    backupSuffix: byteStringSchema
      .refine((suffix) => suffix !== "" && !suffix.includes("/"), "empty, or with a slash")
      .default("~" as ByteString),
    attributesOnly: z.boolean().default(false),
    /** -l and -s: make links instead of copies. */
    make: z.enum(["copy", "hard-link", "symbolic-link"]).default("copy"),
    parents: z.boolean().default(false),
    keepDirectorySymlink: z.boolean().default(false),
    /** POSIXLY_CORRECT: write through a dangling symlink at the destination. cp refuses otherwise. */
    followDanglingDestination: z.boolean().default(false),
    exchange: z.boolean().default(false),
    noCopy: z.boolean().default(false),
    /** Read special files like regular ones: cp without -R, and --copy-contents. */
    copyContents: z.boolean().default(false),
    /** --no-preserve=mode: new files get 0666 and directories 0777 less the umask, not their source's mode less the umask. */
    defaultMode: z.boolean().default(false),
    /** Attributes whose loss is an error (-p, --preserve=xattr); the loss of others is a warning at most. */
    required: z.array(z.enum(preserveAttributes)).default([]),
    /** -a: the loss of an attribute that is not required is passed over in silence. */
    reduceDiagnostics: z.boolean().default(false),
    /** -v: a line for each entry in the worker's `lines` messages. */
    verbose: z.boolean().default(false),
    /** --debug: how each file was copied, in the same lines. Implies verbose. */
    debug: z.boolean().default(false),
  })
  .strict();

export const optionsSchema = z
  .object({
    onConflict: z.enum(conflictPolicies).default("fail"),
    preserve: z.array(z.enum(preserveAttributes)).default([...preserveAttributes]),
    recursive: z.boolean().default(true),
    symlinks: z.enum(symlinkPolicies).default("copy"),
    /** Recreate FIFOs, sockets' names and devices (cp -R); false reports them as failed. */
    specials: z.boolean().default(true),
    /** How the destination is meant: a directory to copy into, the exact final name (-T), or whatever is there. */
    target: z.enum(["auto", "directory", "exact"]).default("auto"),
    reflink: z.enum(["auto", "always", "never"]).default("auto"),
    sparse: z.enum(["auto", "always", "never"]).default("auto"),
    engine: z.enum(engineChoices).default("auto"),
    verify: z.enum(verifyMethods).default("none"),
    /** Where the digests of the copied files go, in the form that sha256sum -c and its like read; "": nowhere. */
    manifest: byteStringSchema
      .refine((path) => path === "" || (path.startsWith("/") && path.length <= maxPathBytes), "not an absolute path")
      .default("" as ByteString),
    durability: z.enum(durabilities).default("job"),
    oneFileSystem: z.boolean().default(false),
    /** Bytes a second; 0 is unlimited. */
    bandwidthLimit: z.number(rateRefusal).int(rateRefusal).min(0, rateRefusal).max(maxBytes, rateRefusal).default(0),
    priority: z.enum(priorities).default("normal"),
    onDisconnect: z.enum(["continue", "cancel"]).default("continue"),
    onError: z.enum(["continue", "stop"]).default("continue"),
    /** A full disk or a used-up quota: ask and wait for space, or fail as cp does. */
    onFull: z.enum(troublePolicies).default("ask"),
    /** A device or connection that went away in the middle: likewise. */
    onLost: z.enum(troublePolicies).default("ask"),
    cache: z.enum(["keep", "drop"]).default("keep"),
    umask: z.number().int().min(0).max(0o777).default(0o022),
    renameMatch: z.string().max(1024).refine(isRegularExpression, "not a regular expression").default(""),
    renameReplace: z.string().max(1024).default(""),
    include: z.array(z.string().max(1024)).max(256).default([]),
    exclude: z.array(z.string().max(1024)).max(256).default([]),
    /** Bytes; 0 is unlimited. */
    maxFileSize: z.number().int().min(0).max(maxBytes).default(0),
    gnu: gnuSchema.prefault({}),
  })
  .strict();

export const requestSchema = z
  .object({
    operation: z.enum(["copy", "move"]),
    sources: z.array(pathSchema).min(1),
    destination: pathSchema,
    options: optionsSchema.prefault({}),
  })
  .strict()
  .refine(
    ({ sources, options }) => options.gnu.names === null || options.gnu.names.sources.length === sources.length,
    "gnu.names must name each source",
  );

function isRegularExpression(pattern: string): boolean {
  try {
    return new RegExp(pattern, "u") instanceof RegExp;
  } catch {
    // SyntaxError is RegExp's way to say no.
    return false;
  }
}
