// A worker that cleans up after others of its job: what they had in flight, what nobody will go on with, and, where that is asked for,
// what they have published.

import type { JobTalk } from "./job-talk.ts";
import { emptySnapshot, type ParentMessage, type Snapshot, snapshotIntervalMs } from "./protocol.ts";

type RecoverMessage = Extract<ParentMessage, { type: "recover" }>;

export class RecoveryJob {
  private readonly talk: JobTalk;
  private readonly message: RecoverMessage;
  private readonly isGuarded: boolean;
  private isStopped = false;

  /** `isGuarded`: the request's paths have no link in them, and are to be opened so. */
  constructor(talk: JobTalk, message: RecoverMessage, { isGuarded }: { readonly isGuarded: boolean }, resolve: (status: number) => void) {
    this.talk = talk;
    this.message = message;
    this.isGuarded = isGuarded;
    void this.run().then(resolve);
  }

  receive(message: ParentMessage): void {
    if (message.type === "stop") this.isStopped = true;
  }

  private async run(): Promise<number> {
    const { removeInFlight, removeCheckpointPartials } = await import("./recovery.ts");
    const { inFlightFd, checkpointFd, token, boot, keepsPartial, removal } = this.message;
    removeInFlight(inFlightFd, token, boot);
    if (!keepsPartial && checkpointFd >= 0) removeCheckpointPartials(checkpointFd, token);
    const snapshot = removal === null || checkpointFd < 0 ? emptySnapshot : await this.removePublished(removal);
    const outcome = this.isStopped ? "interrupted" : "completed";
    this.talk.send({ type: "result", outcome, snapshot, engines: {}, reasons: [] });
    await this.talk.end();
    return 0;
  }

  /** One step after the other, so that the parent hears of it and is heard. */
  private async removePublished(removal: NonNullable<RecoverMessage["removal"]>): Promise<Snapshot> {
    const [{ openCheckpoint }, { CopyRemover }] = await Promise.all([import("./checkpoint-file.ts"), import("./remove-copies.ts")]);
    const checkpoint = openCheckpoint({ ...removal, fd: this.message.checkpointFd, isResumed: true }, { unmarked: "believed" });
    using remover = new CopyRemover(this.message.request, checkpoint, { isGuarded: this.isGuarded, token: this.message.token });
    let nextMs = performance.now() + snapshotIntervalMs;
    for (const _ of remover.run()) {
      if (performance.now() < nextMs) continue;
      this.talk.snapshot(emptySnapshot);
      await Bun.sleep(0);
      if (this.isStopped) break;
      nextMs = performance.now() + snapshotIntervalMs;
    }
    const { files, bytes, left } = remover;
    return { ...emptySnapshot, filesDone: files, bytesDone: bytes, filesSkipped: left };
  }
}
