// A thread that is started after its process was confined: says what it may still do.

import { attemptAccess } from "./sandbox-attempts.ts";

declare var self: Worker;

self.onmessage = (event: MessageEvent<{ directory: string; file: string }[]>): void => {
  postMessage(event.data.map(({ directory, file }) => attemptAccess(directory, file)));
};
