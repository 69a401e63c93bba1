// A dry run's voice: what would be done to each entry, failures among it, in batches, and the totals of all at the end.

import type { ByteString } from "../bytes.ts";
import { failureCodeOf } from "../errors.ts";
import type { JobRequest } from "../request.ts";
import { maxToldPath, type PlannedAction, type PlannedOperation, type PreviewSummary } from "./protocol.ts";
import { type EntryPlace, type FailureFacts, type LaneMessage, Reporter } from "./reporter.ts";
import type { Shared } from "./shared.ts";

/** Operations in one message; the protocol refuses more. */
const batchOperations = 256;
/** Bytes of paths in one message, each of which may take six of its frame; a single operation may have more. */
const batchPathBytes = 64 * 1024;

export interface PreviewLimits {
  /** Beyond these, operations are counted only. */
  readonly maxOperations: number;
  readonly maxBytes: number;
}

interface Plan {
  readonly action: PlannedAction;
  readonly object: PlannedOperation["object"];
  readonly bytes: number;
  readonly isHardLink: boolean;
  /** Bytes that the destination must have free for it. */
  readonly room: number;
}

export class PlanReporter extends Reporter {
  private readonly limits: PreviewLimits;
  private readonly counts: Record<PlannedAction, number> = { create: 0, overwrite: 0, merge: 0, skip: 0, rename: 0, ask: 0, fail: 0 };
  private batch: PlannedOperation[] = [];
  private batchBytes = 0;
  private listed = 0;
  private listedBytes = 0;
  private files = 0;
  private directories = 0;
  private bytes = 0;
  private room = 0;
  private conflicts = 0;

  constructor(shared: Shared, request: JobRequest, post: (message: LaneMessage) => void, limits: PreviewLimits) {
    super(shared, 0, request, post);
    this.limits = limits;
  }

  /** Counts and sends one operation. */
  plan(place: EntryPlace, { action, object, bytes, isHardLink, room }: Plan): void {
    this.counts[action]++;
    if (action !== "skip") {
      if (object === "directory") this.directories++;
      else this.files++;
      this.bytes += bytes;
      this.room += room;
    }
    this.list(place, { action, object, bytes, isHardLink, code: "", message: "" });
  }

  /** Something stands where the entry would go. */
  countConflict(): void {
    this.conflicts++;
  }

  /** A failure is an operation too: here nothing else has failed. */
  override fail(facts: FailureFacts): void {
    const action = facts.severity === "warning" ? "skip" : "fail";
    this.counts[action]++;
    const code = facts.code ?? failureCodeOf(facts.errno, facts.side);
    const message = this.messageOf(facts).slice(0, 16384);
    this.list(facts.place, { action, object: "unknown", bytes: 0, isHardLink: false, code, message });
  }

  /** The totals, after the last operation. */
  finish({ spaceFree, isWhole }: { readonly spaceFree: number; readonly isWhole: boolean }): void {
    this.flush();
    const { counts, files, directories, bytes, conflicts, listed } = this;
    const summary: PreviewSummary = { counts, files, directories, bytes, conflicts, spaceNeeded: this.room, spaceFree, listed, isWhole };
    this.send({ type: "preview", summary });
  }

  private list(place: EntryPlace, operation: Omit<PlannedOperation, "source" | "destination">): void {
    const source = this.sourcePath(place).slice(0, maxToldPath) as ByteString;
    const destination = this.destinationPath(place).slice(0, maxToldPath) as ByteString;
    const bytes = source.length + destination.length + operation.message.length;
    if (this.listed >= this.limits.maxOperations || this.listedBytes + bytes > this.limits.maxBytes) return;
    if (this.batch.length >= batchOperations || this.batchBytes + bytes > batchPathBytes) this.flush();
    this.listed++;
    this.listedBytes += bytes;
    this.batchBytes += bytes;
    this.batch.push({ ...operation, source, destination });
  }

  private flush(): void {
    if (this.batch.length === 0) return;
    this.send({ type: "operations", operations: this.batch });
    this.batch = [];
    this.batchBytes = 0;
  }
}
