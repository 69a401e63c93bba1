// The worker's end of the pipe: frames in from the parent, frames out, errors and lines gathered into batches.

import type { ByteString } from "../bytes.ts";
import type { EntryError, ParentMessage, Snapshot, WorkerMessage } from "./protocol.ts";
import { encodeFrame, FrameDecoder, maxParentFrameBytes, maxToldPath, trustingParser } from "./protocol.ts";
import type { QuestionFacts } from "./reporter.ts";

/** How long the last message is waited for once the parent has closed its end, as it does when it dies. Milliseconds. */
const farewellMs = 100;
/** Errors and lines per message; the protocol refuses more. */
const batchEntries = 256;
/** Characters of them, each of which may take six bytes of a frame; a single one may have more. */
const batchCharacters = 128 * 1024;

export class JobTalk {
  private readonly writer = Bun.stdout.writer();
  private readonly decoder = new FrameDecoder<ParentMessage>(trustingParser(), maxParentFrameBytes);
  private readonly inputEnd = Promise.withResolvers<void>();
  private errors: EntryError[] = [];
  private lines: string[] = [];
  /** Of both together. */
  private characters = 0;

  /** Calls `onMessage` for each message until the parent closes the pipe or breaks the protocol; then `onEnd`. */
  async listen(onMessage: (message: ParentMessage) => void, onEnd: () => void): Promise<void> {
    try {
      for await (const chunk of Bun.stdin.stream() as unknown as AsyncIterable<Uint8Array>) {
        for (const message of this.decoder.push(chunk)) onMessage(message);
      }
    } finally {
      this.inputEnd.resolve();
      onEnd();
    }
  }

  error(error: EntryError): void {
    const path = told(error.path);
    this.makeRoom(path.length + error.message.length);
    this.errors.push(path === error.path ? error : { ...error, path });
    if (this.errors.length >= batchEntries) this.flushBatches();
  }

  line(line: string): void {
    this.makeRoom(line.length);
    this.lines.push(line);
    if (this.lines.length >= batchEntries) this.flushBatches();
  }

  question(question: number, facts: QuestionFacts): void {
    const { source, destination, filesystem, message } = facts;
    const paths = { source: told(source), destination: told(destination), filesystem: told(filesystem) };
    this.send({ type: "question", question, ...facts, ...paths, message: message.slice(-16384) });
  }

  snapshot(snapshot: Snapshot): void {
    this.flushBatches();
    this.send({ type: "snapshot", snapshot });
  }

  send(message: WorkerMessage): void {
    void this.attempt(() => this.writer.write(encodeFrame(message)));
    void this.attempt(() => this.writer.flush());
  }

  /** After the last message: resolves when the parent's pipe has taken everything, or nobody is there to take it. */
  async end(): Promise<void> {
    // The runtime leaves the end of a pipe pending whose reader is gone.
    const gone = this.inputEnd.promise.then(() => Bun.sleep(farewellMs));
    await Promise.race([this.attempt(() => this.writer.end()), gone]);
  }

  /** A parent that died takes nothing (EPIPE, thrown or rejected), and the end of its input tells: what is in flight must still be cleared up. */
  private async attempt(write: () => number | Promise<number>): Promise<void> {
    try {
      await write();
    } catch {
      // Nobody is left to be told.
    }
  }

  private makeRoom(characters: number): void {
    if (this.characters + characters > batchCharacters) this.flushBatches();
    this.characters += characters;
  }

  flushBatches(): void {
    const { errors, lines } = this;
    this.characters = 0;
    this.errors = [];
    this.lines = [];
    if (errors.length > 0) this.send({ type: "errors", errors });
    if (lines.length > 0) this.send({ type: "lines", lines });
  }
}

/** A path as it is told; so long a one is nobody's to type. */
function told(path: string): ByteString {
  return (path.length > maxToldPath ? path.slice(0, maxToldPath) : path) as ByteString;
}
