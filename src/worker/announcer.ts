// The lines of -v and --debug, in GNU's words: what is copied where, what was removed or backed up, and by which means.

import type { FileCopier } from "../engines/file-copier.ts";
import type { EntryPlace, Reporter } from "./reporter.ts";

/** There is one only where -v or --debug was given; whoever has something to say asks for it with `?.`. */
export class Announcer {
  private readonly reporter: Reporter;
  private readonly isDebug: boolean;
  /** mv says of each step what it is: copied, created, removed, renamed. */
  private readonly isMove: boolean;

  constructor(reporter: Reporter, options: { readonly debug: boolean }, operation: "copy" | "move") {
    this.reporter = reporter;
    this.isDebug = options.debug;
    this.isMove = operation === "move";
  }

  /** `'a' -> 'b'`, before it is done; `backup` is the name, without its directory, that the old file will have. */
  copying(place: EntryPlace, backup: string | null): void {
    this.pair(this.isMove ? "copied " : "", place, backup);
  }

  renamed(place: EntryPlace, backup: string | null): void {
    this.pair("renamed ", place, backup);
  }

  exchanged(place: EntryPlace): void {
    const { reporter } = this;
    reporter.line(`exchanged ${reporter.quote(reporter.sourceDisplay(place))} <-> ${reporter.quote(reporter.destinationDisplay(place))}`);
  }

  madeDirectory(place: EntryPlace): void {
    if (this.isMove) this.reporter.line(`created directory ${this.reporter.quote(this.reporter.destinationDisplay(place))}`);
    else this.pair("", place, null);
  }

  /** A source that a move has copied and deleted. */
  removedSource(place: EntryPlace, kind: "directory" | "other"): void {
    this.reporter.line(`removed ${kind === "directory" ? "directory " : ""}${this.reporter.quote(this.reporter.sourceDisplay(place))}`);
  }

  private pair(verb: string, place: EntryPlace, backup: string | null): void {
    const { reporter } = this;
    const destination = reporter.destinationDisplay(place);
    const line = `${verb}${reporter.quote(reporter.sourceDisplay(place))} -> ${reporter.quote(destination)}`;
    if (backup === null) {
      reporter.line(line);
      return;
    }
    const kept = destination.slice(0, destination.lastIndexOf("/") + 1) + backup;
    reporter.line(`${line} (backup: ${reporter.quote(kept)})`);
  }

  removed(place: EntryPlace): void {
    this.reporter.line(`removed ${this.reporter.quote(this.reporter.destinationDisplay(place))}`);
  }

  /** A directory made by --parents; coreutils does not quote these two names. */
  madeParent(source: string, destination: string): void {
    this.reporter.line(`${source} -> ${destination}`);
  }

  skipped(place: EntryPlace): void {
    if (this.isDebug) this.reporter.line(`skipped ${this.reporter.quote(this.reporter.destinationDisplay(place))}`);
  }

  /** After a regular file. */
  copied(copier: FileCopier, found: "no" | "SEEK_HOLE" | "zeros" | "SEEK_HOLE + zeros"): void {
    if (!this.isDebug) return;
    const isCloned = copier.engine === "reflink" && copier.cloned > 0;
    const offload = copier.engine === "copy-file-range" ? "yes" : isCloned ? "unknown" : "avoided";
    const reflink = isCloned ? "yes" : copier.engine === "copy-file-range" ? "unknown" : "no";
    this.reporter.line(`copy offload: ${offload}, reflink: ${reflink}, sparse detection: ${found}`);
  }
}
