// What the planner's refusals are called in the failure table and in GNU's words.

import type { FailureCode, FailureSide } from "../errors.ts";
import type { PlanFailure } from "../tree/plan.ts";
import type { Entry } from "./entry.ts";
import type { Reporter } from "./reporter.ts";

interface Words {
  readonly code: FailureCode;
  readonly what: string;
  readonly side?: FailureSide;
}

const words: Record<PlanFailure, Words> = {
  "same-file": { code: "same-file", what: "%s and %d are the same file" },
  exists: { code: "destination-exists", what: "%d exists already" },
  "not-replacing": { code: "destination-exists", what: "not replacing %d" },
  "directory-over-other": { code: "destination-exists", what: "cannot overwrite non-directory %d with directory %s" },
  "other-over-directory": { code: "destination-is-directory", what: "cannot overwrite directory %d with non-directory %s" },
  "just-made": { code: "destination-exists", what: "will not overwrite just-created %d with %s" },
  "link-just-made": { code: "destination-exists", what: "will not copy %s through just-created symlink %d" },
  "backup-onto-source": { code: "same-file", what: "backing up %d might destroy source;  %s not copied" },
};

/** Reports one; for a move, in mv's words. */
export function reportPlanFailure(reporter: Reporter, entry: Entry, why: PlanFailure, program: "copy" | "move" = "copy"): void {
  const { code, what } = words[why];
  const said = program === "move" ? what.replace(/not copied$/, "not moved") : what;
  reporter.fail({ place: entry.place, side: "destination", errno: 0, syscall: "", what: said, code });
}

/**
 * What a resumed move finds under a source's name after the former holder of that name was moved: an undisturbed one leaves it alone,
 * and what was moved, perhaps the only copy, must not give way to it.
 */
export function reportNewcomer(reporter: Reporter, { place }: Entry): void {
  const what = "%s changed or appeared while it was moved, and was left in place";
  reporter.fail({ place, side: "source", errno: 0, syscall: "statx", what, code: "source-changed" });
}
