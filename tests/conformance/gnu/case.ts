// What one conformance case says: how the tree begins, the command line, and who runs it.

export interface Case {
  readonly name: string;
  /** A shell script run in the empty tree, before, as the one who will copy. */
  readonly setup: string;
  /** A shell script run in the empty tree before `setup`, as root, for what an ordinary user cannot make. */
  readonly rootSetup?: string;
  /** A shell script in which cp (or mv) is the program under test. */
  readonly run: string;
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Who copies; both when left out. */
  readonly as?: "root" | "user";
  /** The order of lines on standard output and standard error counts. */
  readonly ordered?: boolean;
  /** Extended attributes and ACLs are compared too. */
  readonly xattrs?: boolean;
  /** Allocated blocks are compared too. */
  readonly blocks?: boolean;
  /** The kind of filesystem the tree is on: tmpfs when left out. */
  readonly on?: "tmpfs" | "ext4" | "xfs";
  /** Directories that are filesystems of their own, in memory, from before the set-up on. */
  readonly mounts?: readonly string[];
}

export type CaseOptions = Omit<Case, "name" | "setup" | "run">;

/** One row of a table of cases. */
export function row(name: string, setup: string, run: string, options: CaseOptions = {}): Case {
  return { name, setup, run, ...options };
}
