// What happens to a job: its users' wishes, its worker's words, and the ends of both.

import type { FailureCode } from "../errors.ts";
import type { EngineChoice, JobOptions } from "../request.ts";
import type { AnswerChoice, EntryError, Snapshot } from "../worker/protocol.ts";
import type { Published, Question } from "./api.ts";
import type { JobMount } from "./job-mounts.ts";
import type { ProcessIdentity } from "./process-identity.ts";
import type { Removed } from "./removal.ts";

export interface WorkerClaim {
  readonly outcome: "completed" | "failed" | "cancelled" | "interrupted";
  readonly engines: Readonly<Partial<Record<EngineChoice, number>>>;
  readonly reasons: readonly string[];
}

export interface WorkerFailure {
  readonly code: FailureCode;
  readonly message: string;
  /** It died, or was lost with the service: another one may do better. */
  readonly mayGoOn: boolean;
}

export type JobEvent =
  /** The first start settles the machine's boot and the mounts. */
  | { readonly type: "started"; readonly bootId: string; readonly mounts: readonly JobMount[] }
  | { readonly type: "worker-started"; readonly process: ProcessIdentity | null }
  | { readonly type: "snapshot"; readonly snapshot: Snapshot }
  | { readonly type: "errors"; readonly errors: readonly EntryError[] }
  | { readonly type: "question"; readonly question: Question }
  | { readonly type: "question-over"; readonly question: number }
  | { readonly type: "pause-requested" }
  | { readonly type: "resume-requested" }
  | { readonly type: "cancel-requested"; readonly published?: Published }
  /** Its worker is told to pause, and to go on, for the sake of its fan-out. */
  | { readonly type: "hold" }
  | { readonly type: "let-go" }
  | {
      readonly type: "options-changed";
      readonly bandwidthLimit?: number;
      readonly priority?: JobOptions["priority"];
      readonly order?: number;
    }
  | { readonly type: "accompanied"; readonly companion: string }
  | { readonly type: "answered"; readonly question: number; readonly choice: AnswerChoice; readonly forAll: boolean }
  | { readonly type: "stop-requested" }
  | { readonly type: "result"; readonly claim: WorkerClaim; readonly snapshot: Snapshot }
  | { readonly type: "worker-failed"; readonly failure: WorkerFailure }
  /** What it had published is gone, or could not be removed. */
  | { readonly type: "removed"; readonly removed: Removed }
  | { readonly type: "removal-failed"; readonly failure: WorkerFailure }
  /** For a job of a former service that ended without an order. */
  | { readonly type: "service-lost" }
  /** What a former worker left is being removed, while the job waits or because it was cancelled. */
  | { readonly type: "clearing" }
  /** No process of the job is left: only now it ends, or waits to go on. */
  | { readonly type: "worker-ended" };
