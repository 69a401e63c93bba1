// `copyd cp` and `copyd mv`: from arguments to the exit status, with everything that is said on the way.

import { existsSync, statSync } from "node:fs";
import { type ByteString, toBytes } from "../bytes.ts";
import { CodeReleaser } from "../code-releaser.ts";
import { CopyError, failures } from "../errors.ts";
import type { JobResult } from "../jobs/api.ts";
import { type MessageCharset, messageCharset, quoteName } from "../quote.ts";
import { rawArguments } from "./argv.ts";
import { chooseRunner } from "./choose-runner.ts";
import { type CopyCommand, parseCopyCommand } from "./copy-options.ts";
import { alsoToOf, requestOf } from "./copy-request.ts";
import type { ParseContext, Program } from "./copy-settings.ts";
import { CopyTalk } from "./copy-talk.ts";
import { isCalledAsCp } from "./embedded-ahead.ts";
import { UsageError, usageMessage } from "./getopt.ts";
import { catchInterruptions } from "./interruption.ts";
import { isTerminal } from "./is-terminal.ts";
import { writeBytes, writeText } from "./output.ts";
import { absolutePath, workingDirectory } from "./paths.ts";
import { typedDestinations } from "./runner.ts";
import { escapeControls } from "./terminal-text.ts";

/** As main's: the arguments after "cp" or "mv"; the exit status. */
export async function runCopyCommand(program: Program, arguments_: readonly string[]): Promise<number> {
  const charset = messageCharset(process.env);
  const context: ParseContext = {
    environment: process.env,
    charset,
    selinux: existsSync("/sys/fs/selinux/enforce"),
    warn: (text) => writeBytes("stderr", `${program}: ${text}\n`),
  };
  try {
    const parsed = parseCopyCommand(program, rawArguments(arguments_), context);
    if (parsed.kind === "help") return await printHelp(program);
    if (parsed.kind === "version") return await printVersion(program);
    checkParents(parsed);
    return await copy(parsed, charset);
  } catch (error) {
    if (error instanceof UsageError) {
      // GNU's own help says nothing of our options.
      writeBytes("stderr", usageMessage(program, error, isCalledAsCp() ? program : `copyd ${program}`));
      return 1;
    }
    if (error instanceof CopyError) return complain(program, error);
    throw error;
  }
}

async function copy(command: CopyCommand, charset: MessageCharset): Promise<number> {
  const { program, settings } = command;
  const here = workingDirectory();
  const alsoTo = alsoToOf(command, { workingDirectory: here });
  const request = requestOf(command, {
    workingDirectory: here,
    umask: process.umask(),
    charset,
    privileged: process.geteuid?.() === 0,
    stdinIsTerminal: isTerminal(0),
  });
  if (settings.dryRun) return await (await import("./dry-run.ts")).runDry(request, alsoTo, { json: settings.json, charset });
  if (alsoTo.length > 0) requireDifferent(typedDestinations(request, alsoTo), here, charset);
  const talk = new CopyTalk(program, settings, charset);
  try {
    const start = await chooseRunner(settings, { calledAsCp: isCalledAsCp() });
    const job = await start(request, talk.listener, { lanes: settings.lanes, totals: talk.wantsTotals, alsoTo });
    talk.attach(job);
    using _code = new CodeReleaser();
    const interruption = catchInterruptions({
      cancel: () => job.cancel(),
      pause: () => {
        talk.display.suspend();
        job.pause();
      },
      resume: () => {
        job.resume();
        talk.display.resume();
      },
    });
    try {
      const result = await job.ended;
      return talk.finish(result) ?? statusOf(result, interruption.status());
    } finally {
      interruption.stop();
      await job.close();
    }
  } finally {
    await talk.close();
  }
}

/** 0 or 1 as cp's, 128 + n after signal n, or what the failure table says of a failure of ours. */
function statusOf(result: JobResult, signalStatus: number | null): number {
  if (result.state === "completed") return 0;
  if (signalStatus !== null) return signalStatus;
  return result.code === undefined ? 1 : failures[result.code].exitStatus;
}

/** The one mistake in the arguments that takes a look at the destination. */
function checkParents({ settings, target, sources, destination }: CopyCommand): void {
  // Several sources need a directory anyway, and are told so first.
  if (!settings.parents || target === "directory" || (target === "auto" && sources.length > 1)) return;
  const paths = [destination, ...settings.also].map((typed) => absolutePath(typed, workingDirectory()));
  if (target === "exact" || !paths.every(isDirectory)) throw new UsageError("with --parents, the destination must be a directory");
}

/** Two names of one directory: each job would take the other's files for somebody else's. */
function requireDifferent(destinations: readonly ByteString[], here: ByteString | null, charset: MessageCharset): void {
  const seen = new Map<string, ByteString>();
  for (const typed of destinations) {
    const status = statSync(toBytes(absolutePath(typed, here)), { throwIfNoEntry: false, bigint: true });
    if (status === undefined) continue;
    const identity = `${status.dev}:${status.ino}`;
    const other = seen.get(identity);
    if (other !== undefined) {
      const [one, two] = [quoteName(other, charset), quoteName(typed, charset)];
      throw new UsageError(`destinations ${one} and ${two} are the same`, { tryHelp: false });
    }
    seen.set(identity, typed);
  }
}

function isDirectory(path: ByteString): boolean {
  try {
    return statSync(toBytes(path)).isDirectory();
  } catch {
    // Not there or not to be looked at: cp takes both for "not a directory" here.
    return false;
  }
}

async function printHelp(program: Program): Promise<number> {
  const { copyHelp } = await import("./copy-help.ts");
  writeText("stdout", copyHelp(program));
  return 0;
}

async function printVersion(program: Program): Promise<number> {
  const { version } = await import("../version.ts");
  writeText("stdout", `${program} (copyd) ${version}\n`);
  return 0;
}

/** What keeps the job from being done at all is not GNU's to word: it comes with advice. */
function complain(program: Program, error: CopyError): number {
  writeText("stderr", `${program}: ${escapeControls(error.message)}\n${error.advice}\n`);
  return error.failure.exitStatus;
}
