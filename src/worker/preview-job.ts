// A worker's dry run as its main thread sees it: one thread that looks, its findings passed on, and a sign of life meanwhile.

import type { JobTalk } from "./job-talk.ts";
import { Lanes } from "./lanes.ts";
import { emptySnapshot, type ParentMessage, snapshotIntervalMs } from "./protocol.ts";
import type { LaneMessage } from "./reporter.ts";
import { Command, Word } from "./shared.ts";

export class PreviewJob {
  private readonly talk: JobTalk;
  private readonly lanes: Lanes;
  private readonly resolve: (status: number) => void;
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(talk: JobTalk, message: Extract<ParentMessage, { type: "preview" }>, resolve: (status: number) => void) {
    this.talk = talk;
    this.resolve = resolve;
    const { request, policy = [], maxOperations, maxBytes } = message;
    this.lanes = new Lanes({
      guardedSources: null,
      request,
      token: "preview",
      policy,
      inFlightFd: -1,
      sharesFiles: false,
      onMessage: (_lane, found) => this.hear(found),
      onCrash: (text) => this.crash(text),
    });
    this.lanes.addPreviewer({ maxOperations, maxBytes });
    this.timer = setInterval(() => talk.snapshot(emptySnapshot), snapshotIntervalMs);
  }

  receive(message: ParentMessage): void {
    if (message.type === "cancel" || message.type === "stop") this.lanes.command(Command.cancel);
  }

  private hear(message: LaneMessage): void {
    switch (message.type) {
      case "operations":
      case "preview":
        Atomics.sub(this.lanes.shared.words, Word.errorsInFlight, 1);
        this.talk.send(message);
        break;
      case "done":
        clearInterval(this.timer);
        this.talk.send({ type: "result", outcome: "completed", snapshot: emptySnapshot, engines: {}, reasons: [] });
        void this.talk.end().then(() => this.resolve(0));
        break;
      case "crashed":
        this.crash(message.message);
        break;
      default:
        break;
    }
  }

  private crash(message: string): void {
    clearInterval(this.timer);
    process.stderr.write(`preview: ${message}\n`);
    this.talk.send({ type: "fatal", code: "internal", message: (message.split("\n")[0] ?? "").slice(0, 1000) });
    void this.talk.end().then(() => this.resolve(1));
  }
}
