// What the jobs room asks of a log: the service gives it the real one, the embedded mode none.

import type { Log } from "../log.ts";

export type JobsLog = Pick<Log, "info" | "warning" | "error">;

export const noLog: JobsLog = { info: () => undefined, warning: () => undefined, error: () => undefined };
