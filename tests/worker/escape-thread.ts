// A thread of a worker that was taken over, started after its sandbox was put on.

import { attemptEscapes, type EscapeTargets } from "./escape-attempts.ts";

declare var self: Worker;

self.onmessage = (event: MessageEvent<EscapeTargets>): void => postMessage(attemptEscapes(event.data));
