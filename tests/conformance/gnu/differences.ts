// Where copyd is meant to differ from the machine's GNU programs: by case, line by line, each with its reason.

import type { Who } from "./both.ts";

export interface Difference {
  /** Why we want it: a newer coreutils' behaviour, or a stronger rule of ours. */
  readonly because: string;
  /** Lines of the outcome, "-" for GNU's and "+" for ours, as a failing run prints them. */
  readonly lines: readonly string[];
  /** For the ordinary user, where that is something else. */
  readonly asUser?: readonly string[];
}

/** The differences of one program, by the names of the cases. */
export class Differences {
  private readonly byName: Readonly<Record<string, Difference>>;

  constructor(byName: Readonly<Record<string, Difference>>) {
    this.byName = byName;
  }

  /** None for a case that is to be alike. */
  of(name: string, who: Who): readonly string[] {
    const difference = Object.hasOwn(this.byName, name) ? this.byName[name] : undefined;
    if (difference === undefined) return [];
    return who === "user" ? (difference.asUser ?? difference.lines) : difference.lines;
  }

  get names(): readonly string[] {
    return Object.keys(this.byName);
  }
}
