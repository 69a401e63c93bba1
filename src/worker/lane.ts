// The entry point of a lane's thread: builds its context and leads the job (lane 0) or helps until it is done.

import { assert } from "../assert.ts";
import type { ByteString } from "../bytes.ts";
import type { StreamHash } from "../engines/hash.ts";
import type { Policy } from "../policy.ts";
import type { JobRequest } from "../request.ts";
import { isMarked } from "./flush.ts";
import { flushUntilDone } from "./flush-thread.ts";
import { LaneContext } from "./lane-context.ts";
import { Leader } from "./leader.ts";
import type { PreviewLimits } from "./plan-reporter.ts";
import type { LaneMessage } from "./reporter.ts";
import { Scanner } from "./scan.ts";
import { Shared, type SharedMemory, Word } from "./shared.ts";
import { SpaceCheck, type SpacePlan } from "./space-check.ts";
import { TreeCopier } from "./tree-copier.ts";
import type { Verifier } from "./verifier.ts";

/** What a thread is told when it starts. */
export interface LaneStart {
  readonly role: "copy" | "assist" | "scan" | "preview" | "flush";
  readonly lane: number;
  readonly memory: SharedMemory;
  /** Address of the lanes' batches and name arenas. */
  readonly lanes: number;
  readonly request: JobRequest;
  readonly token: string;
  /** Where the sources are found without following a link; null: where they are named. */
  readonly guardedSources: readonly ByteString[] | null;
  readonly policy: Policy;
  /** For the role "scan": what is to be looked at besides the totals. */
  readonly space: SpacePlan | null;
  /** For the role "preview". */
  readonly preview: PreviewLimits | null;
}

declare const self: {
  onmessage: ((event: { readonly data: LaneStart }) => void) | null;
  postMessage(message: LaneMessage): void;
};

self.onmessage = (event) => {
  try {
    if (event.data.role === "scan") scanAndFlush(event.data);
    else if (event.data.role === "flush") flushUntilDone(new Shared(event.data.memory), event.data.request);
    else if (event.data.role === "preview") runPreview(event.data).catch(crash);
    else if (isPlain(event.data.request)) run(event.data, null);
    else runVerified(event.data).catch(crash);
  } catch (cause) {
    crash(cause);
  }
};

/** One thread for both, one after the other: each thread takes some 5 MB, and a scan is mostly over before a first mark is due. */
function scanAndFlush({ memory, request, space }: LaneStart): void {
  const shared = new Shared(memory);
  const check = space === null ? null : new SpaceCheck(shared, request, space, (message) => self.postMessage(message));
  new Scanner(shared, request, check).run();
  if (isMarked(shared, request)) flushUntilDone(shared, request);
}

function crash(cause: unknown): void {
  const message = cause instanceof Error ? `${cause.message}\n${cause.stack ?? ""}` : String(cause);
  self.postMessage({ type: "crashed", message });
}

/** Loads what only a dry run needs. */
async function runPreview({ lane, memory, request, token, policy, preview }: LaneStart): Promise<void> {
  assert(preview !== null, "a dry run has its limits");
  const [{ PlanReporter }, { Previewer }] = await Promise.all([import("./plan-reporter.ts"), import("./preview.ts")]);
  const post = (message: LaneMessage): void => self.postMessage(message);
  const shared = new Shared(memory);
  const reporter = new PlanReporter(shared, request, post, preview);
  new Previewer(new LaneContext({ lane, shared, request, token, policy, post, reporter, guardedSources: null }), reporter).run();
  reporter.done([]);
}

function isPlain({ options }: JobRequest): boolean {
  return options.verify === "none" && options.manifest === "";
}

/** Loads what only verification and manifests need. */
async function runVerified(start: LaneStart): Promise<void> {
  const { options } = start.request;
  const { hashMethodOf, loadHash } = await import("../engines/hash.ts");
  const method = hashMethodOf(options);
  // XXH3 of each stretch is the proof by itself.
  const needsWhole = method !== null && (method !== "xxh3" || options.manifest !== "");
  const hash = needsWhole ? await loadHash(method) : null;
  run(start, { ...(await import("./verifier.ts")), hash });
}

interface Verification {
  readonly Verifier: typeof Verifier;
  readonly hash: StreamHash | null;
}

function run({ role, lane, memory, lanes, request, token, policy, guardedSources }: LaneStart, verification: Verification | null): void {
  const post = (message: LaneMessage): void => self.postMessage(message);
  const shared = new Shared(memory);
  const context = new LaneContext({ lane, shared, request, token, policy, post, guardedSources, hash: verification?.hash ?? null });
  const verifier = verification === null ? null : new verification.Verifier(context);
  context.published = verifier;
  const tree = new TreeCopier(context, lanes);
  Atomics.add(shared.words, Word.begun, 1);
  if (lane === 0) post({ type: "ready" });
  if (lane === 0) new Leader(context, tree, { verifier, token }).run();
  else {
    tree.helpUntilDone(role === "assist" ? "ranges" : "entries");
    context.syncOtherDevices();
    verifier?.finish();
  }
  tree.end();
  context.reporter.done([...tree.reasons(), ...(verifier?.reasons() ?? [])]);
}
