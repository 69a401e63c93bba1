// The entry point of a lane's thread: builds its context and leads the job (lane 0) or helps until it is done.

import type { JobRequest } from "../request.ts";
import { LaneContext } from "./lane-context.ts";
import { Leader } from "./leader.ts";
import type { LaneMessage } from "./reporter.ts";
import { Scanner } from "./scan.ts";
import { Shared, type SharedMemory } from "./shared.ts";
import { TreeCopier } from "./tree-copier.ts";

/** What a thread is told when it starts. */
export interface LaneStart {
  readonly role: "copy" | "scan";
  readonly lane: number;
  readonly memory: SharedMemory;
  /** Address of the lanes' batches and name arenas. */
  readonly lanes: number;
  readonly request: JobRequest;
  readonly token: string;
}

declare const self: {
  onmessage: ((event: { readonly data: LaneStart }) => void) | null;
  postMessage(message: LaneMessage): void;
};

self.onmessage = (event) => {
  try {
    run(event.data);
  } catch (cause) {
    const message = cause instanceof Error ? `${cause.message}\n${cause.stack ?? ""}` : String(cause);
    self.postMessage({ type: "crashed", message });
  }
};

function run({ role, lane, memory, lanes, request, token }: LaneStart): void {
  if (role === "scan") {
    new Scanner(new Shared(memory), request).run();
    return;
  }
  const context = new LaneContext({ lane, shared: new Shared(memory), request, token, post: (message) => self.postMessage(message) });
  const tree = new TreeCopier(context, lanes);
  if (lane === 0) new Leader(context, tree).run();
  else tree.helpUntilDone();
  context.syncOtherDevices();
  context.reporter.done(context.copier.reasons());
}
