// `copyd verify MANIFEST [DIR]`: are the files of a manifest what it says? Read off the medium by a worker; only workers load FFI.

import type { ArgsDef } from "citty";
import { type ByteString, displayText } from "../bytes.ts";
import { errnoText } from "../errno.ts";
import { CopyError, failureCodeOf } from "../errors.ts";
import { messageCharset, quoteName } from "../quote.ts";
import { verifyMethods } from "../request.ts";
import type { VerifyReport, VerifyTask } from "../worker/verify-manifest.ts";
import { rawArguments } from "./argv.ts";
import { nameFields, writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeBytes, writeText } from "./output.ts";
import { absolutePath, workingDirectory } from "./paths.ts";
import { ProgressDisplay, progressStyle, standardErrorTerminal } from "./progress.ts";
import { formatBytes, formatCount } from "./units.ts";

const args = {
  manifest: {
    type: "positional",
    required: true,
    valueHint: "MANIFEST",
    description: "Lines of sha256sum, md5sum, b3sum, xxhsum -H3 or cp --manifest",
  },
  directory: {
    type: "positional",
    required: false,
    valueHint: "DIR",
    description: "Where its names begin; the current directory without it",
  },
  method: {
    type: "string",
    valueHint: "METHOD",
    description: "What lines with 64 digits are: sha256 or blake3 (without it, either); or md5, xxh3, crc32 for all lines",
  },
  verbose: { type: "boolean", alias: "v", description: "Name each file, also those that are right" },
  json: { type: "boolean", description: "One JSON object a line on standard output" },
} as const satisfies ArgsDef;

const hashMethods = verifyMethods.filter((method) => method !== "none" && method !== "size");

export const verifyCommand = named("verify", "Check files against a manifest of checksums, off the medium", args, async (given) => {
  const [manifest, directory = "." as ByteString] = rawArguments(given._);
  if (manifest === undefined) throw new CopyError("usage", "a MANIFEST is needed");
  const method = hashMethods.find((known) => known === given.method) ?? null;
  if (given.method !== undefined && method === null) {
    throw new CopyError("usage", `--method is one of ${hashMethods.join(", ")}, not '${given.method}'`);
  }
  const here = workingDirectory();
  const task = { manifest: absolutePath(manifest, here), directory: absolutePath(directory, here), method };
  const talk = new VerifyTalk(manifest, { json: given.json === true, verbose: given.verbose === true });
  try {
    await runWorker(task, (report) => talk.hear(report));
    return talk.finish();
  } finally {
    talk.display.close();
  }
});

class VerifyTalk {
  readonly display: ProgressDisplay;
  private readonly charset = messageCharset(process.env);
  private readonly manifest: ByteString;
  private readonly json: boolean;
  private readonly verbose: boolean;
  private right = 0;
  private wrong = 0;
  private missing = 0;
  private odd = 0;
  private end: Extract<VerifyReport, { type: "end" }> | null = null;

  constructor(manifest: ByteString, { json, verbose }: { readonly json: boolean; readonly verbose: boolean }) {
    this.manifest = manifest;
    this.json = json;
    this.verbose = verbose;
    const terminal = standardErrorTerminal((text) => writeText("stderr", text));
    this.display = new ProgressDisplay(progressStyle(json ? "never" : "auto", terminal, process.env, this.charset), terminal);
  }

  hear(report: VerifyReport): void {
    if (report.type === "failed") {
      throw new CopyError(failureCodeOf(report.errno, "source"), `${this.asText(report.path)}: ${errnoText(report.errno)}`);
    }
    if (report.type === "end") this.end = report;
    else if (report.type === "progress") this.showProgress(report);
    else if (report.type === "odd") this.showOdd(report);
    else this.showFile(report);
    if (this.json) writeJson(textFields(report));
  }

  /** The exit status. */
  finish(): number {
    this.display.close();
    if (this.end === null) throw new CopyError("worker-died", "the process that reads the files ended before it was done");
    const problems = [
      [this.wrong, "wrong"],
      [this.missing, "not readable"],
      [this.odd, this.odd === 1 ? "odd line" : "odd lines"],
    ].filter(([count]) => count !== 0);
    const checked = this.right + this.wrong + this.missing;
    if (checked === 0 && this.odd === 0) throw new CopyError("bad-manifest", `${this.asText(this.manifest)} names no file`);
    if (!this.json) {
      const how = this.end.ways.every((way) => way === "direct" || way === "dropped") ? "off the medium" : "in part from memory";
      const read = this.end.ways.length === 0 ? "" : `, ${formatBytes(this.end.bytes)} read ${how}`;
      const bad = problems.map(([count, what]) => `, ${formatCount(Number(count))} ${what}`).join("");
      writeText("stdout", `${formatCount(this.right)} of ${formatCount(checked)} ${checked === 1 ? "file" : "files"} right${bad}${read}\n`);
    }
    return problems.length === 0 ? 0 : 1;
  }

  private showProgress({ bytes, files, name }: Extract<VerifyReport, { type: "progress" }>): void {
    this.display.update({
      state: "finishing",
      phase: "verifying",
      totalsValid: false,
      bytesTotal: 0,
      bytesDone: bytes,
      bytesVerified: 0,
      bytesToVerify: 0,
      filesTotal: 0,
      filesDone: files,
      filesSkipped: 0,
      errorCount: this.wrong + this.missing,
      rate: 0,
      expectedEndTimeUs: 0,
      currentFile: name as ByteString,
    });
  }

  private showOdd({ line, problem }: Extract<VerifyReport, { type: "odd" }>): void {
    this.odd++;
    this.complain(`${this.quote(this.manifest)}, line ${line}: ${problem}`);
  }

  private showFile({ name, method, code, problem }: Extract<VerifyReport, { type: "file" }>): void {
    if (code === null) this.right++;
    else if (code === "verify-mismatch") this.wrong++;
    else this.missing++;
    if (code !== null) this.complain(`${this.quote(name)}: ${problem} (${method})`);
    else if (this.verbose && !this.json) this.display.interrupt(() => writeBytes("stdout", `${this.quote(name)}: right\n`));
  }

  private complain(message: string): void {
    this.display.interrupt(() => writeBytes("stderr", `copyd verify: ${message}\n`));
  }

  private quote(name: string): string {
    return quoteName(name as ByteString, this.charset);
  }

  /** Quoted, for messages that are text. */
  private asText(name: string): string {
    return displayText(this.quote(name) as ByteString);
  }
}

function textFields(report: VerifyReport): Readonly<Record<string, unknown>> {
  if (report.type === "odd") return { ...report, code: "bad-manifest" };
  return "name" in report ? { ...report, ...nameFields("name", report.name as ByteString) } : { ...report };
}

async function runWorker(task: VerifyTask, hear: (report: VerifyReport) => void): Promise<void> {
  const { selfCommand, selfName, workerEnvironment } = await import("../worker/spawn.ts");
  const child = Bun.spawn([...selfCommand(), "--verify"], {
    argv0: selfName,
    cwd: "/",
    env: { ...workerEnvironment },
    stdin: new Blob([JSON.stringify(task)]),
    stdout: "pipe",
    stderr: "inherit",
  });
  const decoder = new TextDecoder();
  let pending = "";
  try {
    for await (const chunk of child.stdout) {
      const lines = (pending + decoder.decode(chunk, { stream: true })).split("\n");
      pending = lines.pop() ?? "";
      for (const line of lines) hear(JSON.parse(line) as VerifyReport);
    }
  } finally {
    child.kill();
    await child.exited;
  }
}
