// What cp and mv say while their job runs: messages, -v lines, questions, progress, and --json in place of the last three.

import type { ByteString } from "../bytes.ts";
import type { JobResult, JobView, Question } from "../jobs/api.ts";
import { type MessageCharset, quoteName } from "../quote.ts";
import { type EntryError, questionChoices } from "../worker/protocol.ts";
import type { Program, Settings } from "./copy-settings.ts";
import { isCalledAsCp } from "./embedded-ahead.ts";
import { errorsLostText } from "./job-text.ts";
import { errorObject, lineObject, progressObject, questionObject, resultObject, writeJson } from "./json-lines.ts";
import { OutputLost, writeBytes, writeText } from "./output.ts";
import { ProgressDisplay, progressStyle, standardErrorTerminal } from "./progress.ts";
import { AnswerReader } from "./prompt.ts";
import type { Answer, RunListener, RunningJob } from "./runner.ts";
import { escapeControls } from "./terminal-text.ts";

/** Progress objects a second are enough for any program that reads them. */
const jsonIntervalMs = 250;

/** Said each time: whoever waits wonders why nothing moved. */
export const serviceIsBackText = "the service was restarted; the job goes on";

/** Diagnostics and prompts go to standard error, lines and objects to standard output; nothing is said when nothing goes wrong. */
export class CopyTalk {
  private readonly program: Program;
  private readonly json: boolean;
  private readonly charset: MessageCharset;
  readonly display: ProgressDisplay;
  private readonly answers = new AnswerReader();
  private job: RunningJob | null = null;
  private errorsTold = 0;
  /** Whether anybody will see a percentage; counting for nobody would only slow the copy down. */
  readonly wantsTotals: boolean;
  private declined = false;
  private outputLost: OutputLost | null = null;
  private nextJsonMs = 0;
  /** A question that came before the job was attached. */
  private early: Question | null = null;
  /** The question of trouble that waits for a line, and the line: one is read at a time, whichever question it will answer. */
  private asked: Question | null = null;
  private line: Promise<string | null> | null = null;
  private onQuestionOver: () => void = () => undefined;

  constructor(program: Program, settings: Readonly<Settings>, charset: MessageCharset) {
    this.program = program;
    this.json = settings.json;
    this.charset = charset;
    const terminal = standardErrorTerminal((text) => writeText("stderr", text));
    // Who is called as plain cp by a script or a habit shows nothing that cp does not.
    const when = settings.progress === "auto" && (settings.json || isCalledAsCp()) ? "never" : settings.progress;
    const style = progressStyle(when, terminal, process.env, charset);
    this.display = new ProgressDisplay(style, terminal);
    this.wantsTotals = settings.json || style.mode !== "off";
  }

  readonly listener: RunListener = {
    changed: (job) => this.showProgress(job),
    lines: (lines) => this.showLines(lines),
    errors: (errors, destination) => this.showErrors(errors, destination),
    memberEnded: (result, destination) => {
      if (this.json) this.guard(() => writeJson(resultObject(result, destination)));
    },
    errorsLost: (count) => this.display.interrupt(() => writeText("stderr", `${this.program}: ${errorsLostText(count)}\n`)),
    question: (question) => void this.ask(question),
    serviceIsBack: () => this.display.interrupt(() => writeText("stderr", `${this.program}: ${serviceIsBackText}\n`)),
  };

  attach(job: RunningJob): void {
    this.job = job;
    if (this.early !== null) void this.ask(this.early);
    if (this.outputLost?.isSilent === true) job.cancel();
  }

  /** The last word; a status where it is not the result's own. Throws OutputLost where not all could be said. */
  finish(result: JobResult): number | null {
    this.display.close();
    // A failure of entries was told entry by entry; of cancelling, the one who did it knows.
    const untold = result.state === "failed" && (this.errorsTold === 0 || isOurs(result));
    if (untold && this.outputLost?.isSilent !== true) writeText("stderr", `${this.program}: ${escapeControls(result.message)}\n`);
    if (this.json) this.guard(() => writeJson(resultObject(result)));
    if (this.outputLost !== null) throw this.outputLost;
    // Since coreutils 9.2 a declined prompt ends in status 1.
    return result.state === "completed" && this.declined ? 1 : null;
  }

  async close(): Promise<void> {
    this.display.close();
    await this.answers.close();
  }

  private showProgress(job: JobView): void {
    this.noteQuestion(job.question);
    this.display.update(job);
    const nowMs = performance.now();
    if (!this.json || nowMs < this.nextJsonMs) return;
    this.nextJsonMs = nowMs + jsonIntervalMs;
    this.guard(() => writeJson(progressObject(job)));
  }

  private showLines(lines: readonly string[]): void {
    this.guard(() => {
      if (this.json) for (const line of lines) writeJson(lineObject(line));
      else this.display.interrupt(() => writeBytes("stdout", `${lines.join("\n")}\n`));
    });
  }

  private showErrors(errors: readonly EntryError[], destination?: ByteString): void {
    this.errorsTold += errors.filter(({ severity }) => severity === "error").length;
    const front = destination === undefined ? this.program : `${this.program}: to ${quoteName(destination, this.charset)}`;
    this.display.interrupt(() => writeBytes("stderr", errors.map(({ message }) => `${front}: ${message}\n`).join("")));
    if (this.json) this.guard(() => errors.forEach((error) => void writeJson(errorObject(error, destination))));
  }

  private async ask(question: Question): Promise<void> {
    if (this.job === null) {
      this.early = question;
      return;
    }
    this.display.suspend();
    if (this.json) this.guard(() => writeJson(questionObject(question)));
    writeBytes("stderr", `${this.program}: ${question.message}`);
    if (question.kind === "conflict") {
      const yes = await this.answers.isYes();
      this.display.resume();
      if (!yes) this.declined = true;
      this.job.answer(question.id, yes ? "overwrite" : "skip");
      return;
    }
    const answer = await this.readChoice(question);
    this.display.resume();
    // null: it went on by itself, or somebody else has answered.
    if (answer !== null) this.job.answer(question.id, answer);
  }

  /** "r", "s", "a" or "c", and whatever begins so. Input that has ended answers nothing: the job waits until the trouble is over. */
  private async readChoice(question: Question): Promise<Answer | null> {
    const choices = questionChoices[question.kind];
    this.asked = question;
    for (;;) {
      const over = Promise.withResolvers<null>();
      this.onQuestionOver = () => over.resolve(null);
      this.line ??= this.answers.line();
      const line = await Promise.race([this.line, over.promise]);
      if (this.asked !== question) {
        writeText("stderr", "\n");
        return null;
      }
      if (line === null) {
        await over.promise;
        return null;
      }
      this.line = null;
      const word = line.trim().toLowerCase();
      const choice = choices.find((known) => word !== "" && known.startsWith(word));
      if (choice !== undefined) return choice as Answer;
      writeText("stderr", `${this.program}: ${choices.join(", ")}? `);
    }
  }

  /** A question of trouble is over when the job asks nothing, or something else. */
  private noteQuestion(open: Question | null): void {
    if (this.asked === null || open?.id === this.asked.id) return;
    this.asked = null;
    this.onQuestionOver();
  }

  /** Whoever read standard output has gone: cp would have been ended by SIGPIPE. Where it is full, cp goes on and says so at its end. */
  private guard(write: () => void): void {
    if (this.outputLost !== null) return;
    try {
      write();
    } catch (error) {
      if (!(error instanceof OutputLost)) throw error;
      this.outputLost = error;
      if (error.isSilent) this.job?.cancel();
    }
  }
}

/** True when the process failed rather than an entry. */
function isOurs({ code }: JobResult): boolean {
  return code?.startsWith("worker-") === true || code === "internal";
}
