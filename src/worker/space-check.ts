// Space before it runs out: once the totals are known, what is still to be written against what is free, and a question or a warning.
//
// The copy goes on meanwhile. Counted is what will take space for certain: sources that had no place at the destination when the job
// began, their blocks and not their holes, one name of a hard-linked file. Where anything was cloned, nothing is foretold.

import { layout } from "../ffi/layout.ts";
import { At, libc, Mode, Open } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import type { JobRequest } from "../request.ts";
import { baseName, parentOf, stripSlashes } from "./destination.ts";
import { freeBytesOf } from "./free-space.ts";
import { LaneControl } from "./lane-control.ts";
import { mountPointOf } from "./mount-probe.ts";
import { Answer, Questions } from "./questions.ts";
import { joinPath, type LaneMessage, type QuestionFacts, Reporter } from "./reporter.ts";
import { Command, Counter, maxLanes, type Shared, Word } from "./shared.ts";

/** Directories and the filesystem's own records: less than this is no shortage worth a word. */
const slackBytes = 1024 * 1024;
/** Jobs of more sources are not looked at before they start. */
const maxArguments = 256;

/** What is known before anything is written: the directory that the job writes into, and which sources have no place there yet. */
export interface SpacePlan {
  readonly directory: string;
  readonly isNew: readonly boolean[];
}

/** Null where nothing can be foretold without false alarms: cp's own contract, links, filters, renamed entries, the same filesystem's moves. */
export function planSpace({ sources, destination, operation, options }: JobRequest): SpacePlan | null {
  const { gnu, include, exclude, maxFileSize, renameMatch } = options;
  const isFiltered = include.length > 0 || exclude.length > 0 || maxFileSize > 0 || renameMatch !== "";
  if (gnu.names !== null || gnu.make !== "copy" || gnu.attributesOnly || gnu.parents || isFiltered || sources.length > maxArguments)
    return null;
  using arena = new Arena(16 * 1024);
  const stat = new Stat(arena.allocate(layout.statx.size));
  const mark = arena.mark();
  const look = (path: string): number => {
    arena.reset(mark);
    return stat.ofTarget(At.AT_FDCWD, arena.cstring(path));
  };
  const isDirectory = look(destination) === 0 && stat.type === Mode.S_IFDIR && options.target !== "exact";
  const directory = isDirectory ? destination : parentOf(stripSlashes(destination));
  if (look(directory) !== 0) return null;
  const device = stat.device;
  const isNew = sources.map((source) => {
    if (operation === "move" && look(source) === 0 && stat.device === device) return false;
    const place = isDirectory ? joinPath(directory, baseName(source)) : stripSlashes(destination);
    return look(place) !== 0;
  });
  return { directory, isNew };
}

/** The scanner's: it has nothing else to do by then. */
export class SpaceCheck {
  private readonly shared: Shared;
  private readonly request: JobRequest;
  private readonly plan: SpacePlan;
  private readonly reporter: Reporter;
  private readonly questions: Questions;

  constructor(shared: Shared, request: JobRequest, plan: SpacePlan, post: (message: LaneMessage) => void) {
    this.shared = shared;
    this.request = request;
    this.plan = plan;
    const lane = maxLanes - 1;
    this.reporter = new Reporter(shared, lane, request, post);
    this.questions = new Questions(shared, new LaneControl(shared, lane, () => undefined), this.reporter);
  }

  countsArgument(argument: number): boolean {
    return this.plan.isNew[argument] === true;
  }

  /** `neededBytes`: of all that is counted, done or not. Asks as long as it is too much and the answer is to look again. */
  run(neededBytes: number): void {
    if (!this.isShort(neededBytes)) return;
    if (this.request.options.onFull === "fail") {
      this.warn(neededBytes);
      return;
    }
    for (;;) {
      const isOver = (): boolean => !this.isShort(neededBytes);
      const answer = this.questions.ask("space-low", isOver, () => this.question(neededBytes), isOver);
      if (answer === Answer.abort) Atomics.store(this.shared.words, Word.command, Command.cancel);
      if (answer !== Answer.retry || isOver()) return;
    }
  }

  private isShort(neededBytes: number): boolean {
    const { words } = this.shared;
    if (Atomics.load(words, Word.done) === 1 || Atomics.load(words, Word.command) === Command.cancel) return false;
    if (this.shared.total(Counter.bytesCloned) > 0) return false;
    const free = this.freeBytes();
    return free >= 0 && this.leftBytes(neededBytes) > free + slackBytes;
  }

  private leftBytes(neededBytes: number): number {
    return Math.max(0, neededBytes - this.shared.total(Counter.bytesDone));
  }

  private freeBytes(): number {
    using arena = new Arena(8 * 1024);
    const fd = libc.openat(At.AT_FDCWD, arena.cstring(this.plan.directory), Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC, 0);
    if (fd < 0) return -1;
    const free = freeBytesOf(fd);
    libc.close(fd);
    return free;
  }

  private question(total: number): QuestionFacts {
    const { sources, destination } = this.request;
    const filesystem = mountPointOf(this.plan.directory);
    const neededBytes = this.leftBytes(total);
    const freeBytes = this.freeBytes();
    const figures = `${neededBytes} bytes are still to be written and ${freeBytes} are free`;
    const message = `${this.reporter.quote(filesystem)} has too little space: ${figures}. Look again, continue as far as it goes, or abort? `;
    return { kind: "space-low", source: sources[0] ?? "", destination, filesystem, neededBytes, freeBytes, message };
  }

  private warn(total: number): void {
    const place = { argument: 0, path: "", destinationRoot: this.request.destination };
    const what = `%d has too little space: ${this.leftBytes(total)} bytes are still to be written and ${this.freeBytes()} are free`;
    this.reporter.fail({ place, side: "destination", errno: 0, syscall: "statfs", what, code: "space-low", severity: "warning" });
  }
}
