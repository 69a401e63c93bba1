// Where copyd is meant to differ from the machine's GNU programs: by case, line by line, each with its reason.

import type { Who } from "./both.ts";

export interface Difference {
  /** Why we want it: a newer coreutils' behaviour, or a stronger rule of ours. */
  readonly because: string;
  /** Lines of the outcome, "-" for GNU's and "+" for ours, as a failing run prints them. */
  readonly lines: readonly string[];
  /** For the ordinary user, where that is something else. */
  readonly asUser?: readonly string[];
  /**
   * What releases after 9.1 may differ in instead: "alike" where they do as we do, else their lines, for each kind of user. Some release
   * between made the change, so both outcomes are right for them.
   */
  readonly newer?: "alike" | readonly string[];
  /** What comes out where our lanes take the entries of a directory in another order. */
  readonly inOtherOrder?: readonly string[];
}

/** The release that the expected differences were written against: Debian 12's. */
const basis = [9, 1] as const;

/** True for a program newer than 9.1. `release`: as "9.7"; "" for one that does not say. */
export function isNewerRelease(release: string): boolean {
  const [major = 0, minor = 0] = release.split(".").map(Number);
  return major > basis[0] || (major === basis[0] && minor > basis[1]);
}

/** The differences of one program, by the names of the cases. */
export class Differences {
  private readonly byName: Readonly<Record<string, Difference>>;

  constructor(byName: Readonly<Record<string, Difference>>) {
    this.byName = byName;
  }

  /** The outcomes that are right, by comparison with GNU's `release`: an empty one for a case that is to be alike. */
  of(name: string, who: Who, release: string): readonly (readonly string[])[] {
    const difference = Object.hasOwn(this.byName, name) ? this.byName[name] : undefined;
    if (difference === undefined) return [[]];
    const { lines, asUser, newer, inOtherOrder } = difference;
    const right = [who === "user" ? (asUser ?? lines) : lines, ...(inOtherOrder === undefined ? [] : [inOtherOrder])];
    if (!isNewerRelease(release) || newer === undefined) return right;
    return [...right, newer === "alike" ? [] : newer];
  }

  get names(): readonly string[] {
    return Object.keys(this.byName);
  }
}
