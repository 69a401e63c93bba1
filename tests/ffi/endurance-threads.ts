// Several threads at once, each with its own errno and ring.

import type { ThreadTask } from "./endurance-thread.ts";

/** What went wrong in any of `count` threads; `file` exists, and each thread makes another beside it. */
export async function endureThreads(count: number, rounds: number, file: string): Promise<string[]> {
  const threads = Array.from({ length: count }, (_, index) => endure({ rounds, file, ownFile: `${file}-${index}` }));
  return (await Promise.all(threads)).flatMap((problems, index) => problems.map((problem) => `thread ${index}: ${problem}`));
}

async function endure(task: ThreadTask): Promise<string[]> {
  const { promise, resolve, reject } = Promise.withResolvers<string[]>();
  // Compiled, a thread's file is found by the name it was built under; from source, a relative name means the working directory.
  const isCompiled = Bun.main.startsWith("/$bunfs/");
  const thread = isCompiled ? new Worker("./endurance-thread.ts") : new Worker(new URL("./endurance-thread.ts", import.meta.url));
  thread.onmessage = (event): void => resolve(event.data as string[]);
  thread.onerror = (event): void => reject(new Error(event.message));
  thread.postMessage(task);
  try {
    return await promise;
  } finally {
    thread.terminate();
  }
}
