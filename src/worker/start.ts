// The role "worker": loads what its arguments ask for, and of a copy that begins at once both threads' parts side by side.

import { startLaneAhead } from "./lane-thread.ts";
import { embeddedFileFlag, embeddedFlag } from "./protocol.ts";

/** `copyd worker`: internal. Resolves with the exit status. */
export async function main(argv: readonly string[]): Promise<number> {
  switch (argv[0]) {
    case "--doctor":
      return (await import("./doctor.ts")).printDoctorReport(argv.slice(1));
    case "--verify":
      return (await import("./verify-manifest.ts")).printVerification();
    default:
      if (argv[0] === embeddedFlag) startLaneAhead();
      // Loaded while the parent loads, too.
      if (argv[0] === embeddedFileFlag) await import("./lone-file.ts");
      return (await import("./worker.ts")).work();
  }
}
