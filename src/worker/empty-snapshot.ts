// The snapshot of a worker that copies nothing: a recovery's, a dry run's.

import type { Snapshot } from "./protocol.ts";

export const emptySnapshot: Snapshot = {
  phase: "copying",
  paused: false,
  totalsValid: false,
  bytesTotal: 0,
  bytesDone: 0,
  bytesCloned: 0,
  bytesVerified: 0,
  bytesToVerify: 0,
  filesTotal: 0,
  filesDone: 0,
  filesSkipped: 0,
  directoriesDone: 0,
  errorCount: 0,
  warningCount: 0,
  currentFile: "" as Snapshot["currentFile"],
  engine: "auto",
  lanes: 0,
};
