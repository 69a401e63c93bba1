// What each option of cp and mv does to the settings: defaults, implications and which of two has the last word, as in coreutils.

import type { ByteString } from "../bytes.ts";
import type { MessageCharset } from "../quote.ts";
import type { Durability, EngineChoice } from "../request.ts";
import { matchArgument } from "./argument-match.ts";
import { parseByteCount, parseCount } from "./byte-count.ts";
import {
  type Attribute,
  type Backup,
  cacheWords,
  durabilityWords,
  engineWords,
  type OptionName,
  preserveWords,
  progressWords,
  reflinkWords,
  sparseWords,
  type TroublePolicy,
  troubleWords,
  type Update,
  updateWords,
  type Verify,
  verifyWords,
  type When,
} from "./copy-tables.ts";
import { UsageError } from "./getopt.ts";

export type Program = "cp" | "mv";

/** What the parser wants to know of the process; a parameter so that tests need no other process. */
export interface ParseContext {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly charset: MessageCharset;
  readonly selinux: boolean;
  /** A complaint that does not end the program, printed after "cp: ". */
  readonly warn: (text: string) => void;
}

export interface Settings {
  attributesOnly: boolean;
  backup: Backup;
  backupSuffix: ByteString;
  copyContents: boolean;
  debug: boolean;
  /** null until -P, -L, -H, -d or -a was seen. */
  dereference: "never" | "always" | "arguments" | null;
  exchange: boolean;
  /** cp -f. */
  force: boolean;
  hardLink: boolean;
  /** The last of mv's -i, -f, -n, or of cp's -i and -n; null: none of them. */
  interactive: "ask" | "yes" | "skip" | null;
  keepDirectorySymlink: boolean;
  noCopy: boolean;
  oneFileSystem: boolean;
  parents: boolean;
  preserve: Set<Attribute>;
  /** --no-preserve=mode was the last word on the mode. */
  defaultMode: boolean;
  /** -p, -a, --preserve: losing what is preserved (xattrs excepted) is an error. */
  requirePreserve: boolean;
  requireXattr: boolean;
  requireContext: boolean;
  /** -a: do not complain of xattrs that could not be kept. */
  reduceDiagnostics: boolean;
  recursive: boolean;
  reflink: When;
  removeDestination: boolean;
  sparse: When;
  symbolicLink: boolean;
  update: Update;
  verbose: boolean;
  followDanglingDestination: boolean;

  /** With root's rights, if polkit allows it. */
  admin: boolean;
  /** Further destinations, as typed. */
  also: readonly ByteString[];
  cache: "keep" | "drop";
  durability: Durability;
  engine: EngineChoice;
  json: boolean;
  dryRun: boolean;
  /** 0: adapt. */
  lanes: number;
  /** "": none. */
  manifest: ByteString;
  /** Bytes a second; 0 is unlimited. */
  limitRate: number;
  onFull: TroublePolicy;
  onLost: TroublePolicy;
  progress: When;
  service: "auto" | "local" | "session";
  verify: Verify;
}

/** A command line half read. */
export interface ParseState {
  readonly program: Program;
  readonly context: ParseContext;
  readonly settings: Settings;
  /** --backup's argument, "" for -b; null: no backups. */
  backupControl: ByteString | null;
  /** -S's argument. */
  backupSuffix: ByteString | null;
  targetDirectory: ByteString | null;
  noTargetDirectory: boolean;
  stripTrailingSlashes: boolean;
}

/** The settings of a command line without options. */
export function initialState(program: Program, context: ParseContext): ParseState {
  return {
    program,
    context,
    settings: defaultSettings(program, context.environment),
    backupControl: null,
    backupSuffix: null,
    targetDirectory: null,
    noTargetDirectory: false,
    stripTrailingSlashes: false,
  };
}

/** Applies one option. Throws UsageError for an argument that the option does not take. */
export function applyOption(state: ParseState, name: Exclude<OptionName, "help" | "version">, argument: ByteString | null): void {
  handlers[name](state, argument);
}

const empty = "" as ByteString;
const allAttributes: readonly Attribute[] = ["mode", "timestamps", "ownership", "links", "context", "xattr"];
/** As many lanes as the worker takes. */
const maxLanes = 64;

function defaultSettings(program: Program, environment: ParseContext["environment"]): Settings {
  const move = program === "mv";
  return {
    attributesOnly: false,
    backup: "none",
    backupSuffix: "~" as ByteString,
    copyContents: false,
    debug: false,
    dereference: move ? "never" : null,
    exchange: false,
    force: false,
    hardLink: false,
    interactive: null,
    keepDirectorySymlink: false,
    noCopy: false,
    oneFileSystem: false,
    parents: false,
    preserve: new Set(move ? allAttributes : []),
    defaultMode: false,
    requirePreserve: false,
    requireXattr: false,
    requireContext: false,
    reduceDiagnostics: false,
    recursive: move,
    reflink: "auto",
    removeDestination: false,
    sparse: "auto",
    symbolicLink: false,
    update: "all",
    verbose: false,
    // POSIX requires of cp what is not safe: to create a file through a link that leads nowhere.
    followDanglingDestination: !move && environment.POSIXLY_CORRECT !== undefined,
    admin: false,
    also: [],
    cache: "keep",
    durability: "none",
    engine: "auto",
    json: false,
    dryRun: false,
    lanes: 0,
    manifest: empty,
    limitRate: 0,
    // cp's contract: a full disk is an error.
    onFull: "fail",
    onLost: "fail",
    progress: "auto",
    service: "auto",
    verify: "none",
  };
}

type Handler = (state: ParseState, argument: ByteString | null) => void;

const handlers: Readonly<Record<Exclude<OptionName, "help" | "version">, Handler>> = {
  archive: ({ settings }) => {
    settings.dereference = "never";
    settings.recursive = true;
    settings.requirePreserve = true;
    settings.reduceDiagnostics = true;
    settings.preserve = settings.preserve.union(new Set(allAttributes));
  },
  "attributes-only": ({ settings }) => {
    settings.attributesOnly = true;
  },
  backup: (state, argument) => {
    state.backupControl = argument ?? state.backupControl ?? ("" as ByteString);
  },
  "copy-contents": ({ settings }) => {
    settings.copyContents = true;
  },
  d: ({ settings }) => {
    settings.dereference = "never";
    settings.preserve.add("links");
  },
  debug: ({ settings }) => {
    settings.debug = true;
    settings.verbose = true;
  },
  dereference: ({ settings }) => {
    settings.dereference = "always";
  },
  "dereference-arguments": ({ settings }) => {
    settings.dereference = "arguments";
  },
  exchange: ({ settings }) => {
    settings.exchange = true;
  },
  force: ({ settings, program }) => {
    // cp's -f is about destinations that cannot be opened, and leaves -i alone; mv's is the opposite of -i.
    if (program === "cp") settings.force = true;
    else settings.interactive = "yes";
  },
  interactive: ({ settings }) => {
    settings.interactive = "ask";
  },
  link: ({ settings }) => {
    settings.hardLink = true;
  },
  "no-clobber": ({ settings }) => {
    settings.interactive = "skip";
  },
  "no-copy": ({ settings }) => {
    settings.noCopy = true;
  },
  "no-dereference": ({ settings }) => {
    settings.dereference = "never";
  },
  "no-preserve": (state, argument) => {
    const { settings } = state;
    for (const word of attributeWords("--no-preserve", argument ?? empty, state)) {
      for (const attribute of attributesOf(word)) settings.preserve.delete(attribute);
      if (word === "mode" || word === "all") settings.defaultMode = true;
      if (word === "xattr") settings.requireXattr = false;
      if (word === "context") settings.requireContext = false;
    }
  },
  "no-target-directory": (state) => {
    state.noTargetDirectory = true;
  },
  "one-file-system": ({ settings }) => {
    settings.oneFileSystem = true;
  },
  parents: ({ settings }) => {
    settings.parents = true;
  },
  preserve: (state, argument) => {
    const { settings } = state;
    settings.requirePreserve = true;
    if (argument === null) {
      for (const attribute of ["mode", "ownership", "timestamps"] as const) settings.preserve.add(attribute);
      return;
    }
    for (const word of attributeWords("--preserve", argument, state)) {
      for (const attribute of attributesOf(word)) settings.preserve.add(attribute);
      if (word === "mode" || word === "all") settings.defaultMode = false;
      // "all" keeps what it can of these two; only naming them makes their loss an error.
      if (word === "xattr") settings.requireXattr = true;
      if (word === "context") settings.requireContext = true;
    }
  },
  recursive: ({ settings }) => {
    settings.recursive = true;
  },
  "remove-destination": ({ settings }) => {
    settings.removeDestination = true;
  },
  sparse: (state, argument) => {
    state.settings.sparse = matchArgument("--sparse", argument ?? empty, sparseWords, state.context.charset);
  },
  reflink: (state, argument) => {
    state.settings.reflink = argument === null ? "always" : matchArgument("--reflink", argument, reflinkWords, state.context.charset);
  },
  "strip-trailing-slashes": (state) => {
    state.stripTrailingSlashes = true;
  },
  suffix: (state, argument) => {
    state.backupControl ??= empty;
    state.backupSuffix = argument;
  },
  "symbolic-link": ({ settings }) => {
    settings.symbolicLink = true;
  },
  "target-directory": (state, argument) => {
    if (state.targetDirectory !== null) throw new UsageError("multiple target directories specified", { tryHelp: false });
    state.targetDirectory = argument;
  },
  update: (state, argument) => {
    state.settings.update = argument === null ? "older" : matchArgument("--update", argument, updateWords, state.context.charset);
  },
  verbose: ({ settings }) => {
    settings.verbose = true;
  },
  "keep-directory-symlink": ({ settings }) => {
    settings.keepDirectorySymlink = true;
  },
  context: ({ context, program }, argument) => {
    if (context.selinux) context.warn("warning: ignoring -Z and --context; copyd does not set security contexts");
    else if (argument !== null && program === "cp") {
      context.warn("warning: ignoring --context; it requires an SELinux-enabled kernel");
    }
  },
  progress: (state, argument) => {
    state.settings.progress = argument === null ? "always" : matchArgument("--progress", argument, progressWords, state.context.charset);
  },
  json: ({ settings }) => {
    settings.json = true;
  },
  "dry-run": ({ settings }) => {
    settings.dryRun = true;
  },
  also: ({ settings, program }, argument) => {
    if (program === "mv") throw new UsageError("--also is for cp: a source may go only when every copy of it is there");
    if (argument === null || argument === "") throw new UsageError("--also needs a destination");
    settings.also = [...settings.also, argument];
  },
  local: ({ settings }) => {
    settings.service = "local";
  },
  session: ({ settings }) => {
    settings.service = "session";
  },
  admin: ({ settings }) => {
    settings.admin = true;
  },
  verify: (state, argument) => {
    state.settings.verify = argument === null ? "xxh3" : matchArgument("--verify", argument, verifyWords, state.context.charset);
  },
  manifest: ({ settings, program }, argument) => {
    // What mv renames, it never reads.
    if (program === "mv") throw new UsageError("--manifest is for cp: what mv renames has no digest");
    if (argument === null || argument === "") throw new UsageError("--manifest needs the name of a file");
    settings.manifest = argument;
  },
  durability: (state, argument) => {
    state.settings.durability = matchArgument("--durability", argument ?? empty, durabilityWords, state.context.charset);
  },
  "limit-rate": (state, argument) => {
    state.settings.limitRate = parseByteCount("--limit-rate", argument ?? empty, state.context.charset);
  },
  "on-full": (state, argument) => {
    state.settings.onFull = matchArgument("--on-full", argument ?? empty, troubleWords, state.context.charset);
  },
  "on-lost": (state, argument) => {
    state.settings.onLost = matchArgument("--on-lost", argument ?? empty, troubleWords, state.context.charset);
  },
  cache: (state, argument) => {
    state.settings.cache = matchArgument("--cache", argument ?? empty, cacheWords, state.context.charset);
  },
  engine: (state, argument) => {
    state.settings.engine = matchArgument("--engine", argument ?? empty, engineWords, state.context.charset);
  },
  lanes: (state, argument) => {
    state.settings.lanes = parseCount("--lanes", argument ?? empty, maxLanes, state.context.charset);
  },
};

/** The words of a list like "mode,links", abbreviations spelt out. */
function attributeWords(option: string, list: ByteString, { context }: ParseState): (Attribute | "all")[] {
  return list.split(",").map((word) => matchArgument(option, word as ByteString, preserveWords, context.charset));
}

function attributesOf(word: Attribute | "all"): readonly Attribute[] {
  return word === "all" ? allAttributes : [word];
}
