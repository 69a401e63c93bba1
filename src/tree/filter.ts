// Which entries of a tree are copied: include and exclude patterns as a shell's globs, on bytes. Pure.

import type { JobOptions } from "../request.ts";

/** Patterns without a slash look at the name, the others at the whole path below (and with) the argument's own name. */
interface Pattern {
  readonly glob: Bun.Glob;
  readonly onPath: boolean;
}

export class EntryFilter {
  private readonly includes: readonly Pattern[];
  private readonly excludes: readonly Pattern[];

  constructor(options: Pick<JobOptions, "include" | "exclude">) {
    this.includes = options.include.map(patternOf);
    this.excludes = options.exclude.map(patternOf);
  }

  /** True when every entry passes: the lanes then ask nothing. */
  get isOpen(): boolean {
    return this.includes.length === 0 && this.excludes.length === 0;
  }

  /**
   * Whether an entry is copied. `path` begins with the argument's own name ("photos/2024/a.jpg"), a byte string. What an exclude
   * pattern matches is left out with all that is below it; where there are include patterns, a file needs one that matches.
   */
  accepts(path: string, type: "directory" | "other"): boolean {
    const name = path.slice(path.lastIndexOf("/") + 1);
    const matches = ({ glob, onPath }: Pattern): boolean => glob.match(onPath ? path : name);
    if (this.excludes.some(matches)) return false;
    return type === "directory" || this.includes.length === 0 || this.includes.some(matches);
  }
}

// Patterns are text, names are bytes: the pattern's UTF-8 bytes are matched one by one, so a name of any encoding can be met.
function patternOf(pattern: string): Pattern {
  const bytes = Buffer.from(pattern, "utf8").toString("latin1");
  return { glob: new Bun.Glob(bytes.startsWith("/") ? bytes.slice(1) : bytes), onPath: bytes.includes("/") };
}
