// A lane's thread: started, or taken where one was started before anybody knew what it would do.

let startedAhead: Worker | null = null;

/**
 * Starts a lane's thread while the worker itself still loads. Only for a worker that will not be confined: Landlock holds the
 * threads that are started after it.
 */
export function startLaneAhead(): void {
  startedAhead = new Worker(laneModule());
}

/** A thread that waits to be told what it does. */
export function laneThread(): Worker {
  const taken = startedAhead ?? new Worker(laneModule());
  startedAhead = null;
  return taken;
}

/** In the compiled binary a thread's file is a further entry point, named relatively; from source it lies beside this one. */
function laneModule(): string {
  return Bun.main.startsWith("/$bunfs/") ? "./worker/lane.ts" : new URL("./lane.ts", import.meta.url).href;
}
