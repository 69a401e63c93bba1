// A thread with its own errno and its own ring, enduring beside others.

import { endureErrno, endureRing } from "./endurance.ts";

declare var self: Worker;

export interface ThreadTask {
  readonly rounds: number;
  readonly file: string;
  readonly ownFile: string;
}

self.onmessage = (event: MessageEvent<ThreadTask>): void => {
  const { rounds, file, ownFile } = event.data;
  postMessage([...endureErrno(rounds, file), ...endureRing(Math.ceil(rounds / 40), ownFile)]);
};
