// `cp ARGUMENTS` and `mv ARGUMENTS` -> what they ask: operands, contradictions and the complaints of coreutils about both.

import { type ByteString, byteStringFromText } from "../bytes.ts";
import { maxDestinations } from "../jobs/api.ts";
import { quoteName } from "../quote.ts";
import { matchArgument } from "./argument-match.ts";
import { applyOption, initialState, type ParseContext, type ParseState, type Program, type Settings } from "./copy-settings.ts";
import { backupWords, cpTable, mvTable } from "./copy-tables.ts";
import { parseOptions, UsageError } from "./getopt.ts";
import { stripTrailingSlashes } from "./paths.ts";

/** A command line understood; the names are as typed. */
export interface CopyCommand {
  readonly kind: "copy";
  readonly program: Program;
  readonly sources: readonly ByteString[];
  readonly destination: ByteString;
  readonly target: "auto" | "directory" | "exact";
  readonly settings: Readonly<Settings>;
}

/** Parses the arguments after the program's name. Throws UsageError. */
export function parseCopyCommand(
  program: Program,
  arguments_: readonly ByteString[],
  context: ParseContext,
): CopyCommand | { readonly kind: "help" } | { readonly kind: "version" } {
  const state = initialState(program, context);
  const table = program === "cp" ? cpTable : mvTable;
  const options = parseOptions(arguments_, table, { posixlyCorrect: context.environment.POSIXLY_CORRECT !== undefined });
  let step = options.next();
  for (; !step.done; step = options.next()) {
    const { name, argument } = step.value;
    if (name === "help" || name === "version") return { kind: name };
    applyOption(state, name, argument);
  }
  const operands = step.value;
  // mv looks at its operands before it looks for contradictions, cp after; the first complaint is the only one.
  if (program === "mv") checkOperands(operands, state);
  settleContradictions(state);
  if (program === "cp") checkOperands(operands, state);
  return commandOf(operands, state);
}

function checkOperands(operands: readonly ByteString[], { targetDirectory, noTargetDirectory, context }: ParseState): void {
  const [first, , third] = operands;
  if (first === undefined) throw new UsageError("missing file operand");
  if (operands.length === 1 && targetDirectory === null) {
    throw new UsageError(`missing destination file operand after ${quoteName(first, context.charset)}`);
  }
  if (!noTargetDirectory) return;
  if (targetDirectory !== null) {
    throw new UsageError("cannot combine --target-directory (-t) and --no-target-directory (-T)", { tryHelp: false });
  }
  if (third !== undefined) throw new UsageError(`extra operand ${quoteName(third, context.charset)}`);
}

function settleContradictions(state: ParseState): void {
  const { settings, program, context } = state;
  // Cloning and copy_file_range carry holes over.
  if (settings.reflink === "auto" && settings.sparse === "never") settings.reflink = "never";
  if (settings.hardLink && settings.symbolicLink) throw new UsageError("cannot make both hard and symbolic links");
  if (settings.interactive === "skip") settings.update = "none";
  const keepsOld = settings.update === "none" || settings.update === "none-fail";
  if (state.backupControl !== null && (keepsOld || settings.exchange)) {
    throw new UsageError(
      program === "cp"
        ? "--backup is mutually exclusive with -n or --update=none-fail"
        : "cannot combine --backup with --exchange, -n, or --update=none-fail",
    );
  }
  if (settings.reflink === "always" && settings.sparse !== "auto") {
    throw new UsageError("--reflink can be used only with --sparse=auto");
  }
  settleBackup(state);
  if (settings.admin) settleAdmin(state);
  if (settings.also.length > 0) checkAlso(settings);
  settings.dereference ??= settings.recursive && !settings.hardLink ? "never" : "always";
  if (settings.requireContext && !context.selinux) {
    throw new UsageError("cannot preserve security context without an SELinux-enabled kernel", { tryHelp: false });
  }
}

/** Root's rights do not go where links lead that others may have made: those of the arguments that are root's are followed. */
function settleAdmin({ settings }: ParseState): void {
  const { service, dryRun, lanes, manifest, parents, keepDirectorySymlink, dereference, recursive, hardLink, symbolicLink, exchange } =
    settings;
  const conflicts: readonly (readonly [isGiven: boolean, option: string])[] = [
    [service !== "auto", `--${service}`],
    [dryRun, "--dry-run"],
    [lanes > 0, "--lanes"],
    [manifest !== "", "--manifest"],
    [parents, "--parents"],
    [keepDirectorySymlink, "--keep-directory-symlink"],
    [dereference === "always" && recursive, "--dereference (-L) and --recursive (-r)"],
    // What the administrator is asked about is a copy, or a move in one direction.
    [hardLink, "--link (-l)"],
    [symbolicLink, "--symbolic-link (-s)"],
    [exchange, "--exchange"],
  ];
  const first = conflicts.find(([isGiven]) => isGiven);
  if (first !== undefined) throw new UsageError(`cannot combine --admin with ${first[1]}`);
  // Without -r nothing but arguments can be a link.
  const follows = dereference === "always" || (dereference === null && !recursive);
  if (follows) settings.dereference = "arguments";
  settings.followDanglingDestination = false;
}

function checkAlso({ also, manifest, cache, admin }: Settings): void {
  if (also.length >= maxDestinations) throw new UsageError(`at most ${maxDestinations} destinations can be copied to in one reading`);
  const conflicts: readonly (readonly [isGiven: boolean, option: string])[] = [
    [manifest !== "", "--manifest: it is of one destination"],
    [cache === "drop", "--cache=drop: the destinations share one reading through the page cache"],
    [admin, "--admin"],
  ];
  const first = conflicts.find(([isGiven]) => isGiven);
  if (first !== undefined) throw new UsageError(`cannot combine --also with ${first[1]}`, { tryHelp: false });
}

function settleBackup({ settings, backupControl, backupSuffix, context }: ParseState): void {
  const fromEnvironment = (name: string): ByteString => byteStringFromText(context.environment[name] ?? "");
  if (backupControl !== null) {
    const fallback = fromEnvironment("VERSION_CONTROL");
    if (backupControl !== "") settings.backup = matchArgument("backup type", backupControl, backupWords, context.charset);
    else if (fallback !== "") settings.backup = matchArgument("$VERSION_CONTROL", fallback, backupWords, context.charset);
    else settings.backup = "existing";
  }
  // A suffix that is empty or leads elsewhere is not one.
  const suffix = backupSuffix ?? fromEnvironment("SIMPLE_BACKUP_SUFFIX");
  if (suffix !== "" && !suffix.includes("/")) settings.backupSuffix = suffix;
}

function commandOf(operands: readonly ByteString[], state: ParseState): CopyCommand {
  const { program, settings, targetDirectory, noTargetDirectory } = state;
  const last = operands.at(-1);
  const destination = targetDirectory ?? last ?? ("" as ByteString);
  const typed = targetDirectory === null ? operands.slice(0, -1) : operands;
  return {
    kind: "copy",
    program,
    sources: state.stripTrailingSlashes ? typed.map(stripTrailingSlashes) : typed,
    destination,
    target: targetDirectory !== null ? "directory" : noTargetDirectory ? "exact" : "auto",
    settings,
  };
}
