// The entry at hand: where it is read, the name it gets, and its place for messages. One per lane, filled anew for each entry.

import { At } from "../ffi/libc.ts";
import { nameString } from "../tree/dirents.ts";
import type { Directory } from "./directory.ts";
import { type EntryPlace, joinPath } from "./reporter.ts";

export class Entry {
  directory: Directory;
  /** Address of the source's name, a C string, relative to `directory.fields.sourceFd`; an absolute path for an argument. */
  sourceName = 0;
  /** The name at the destination: its address, and the same bytes as JavaScript sees them. */
  name = 0;
  bytes: Uint8Array = new Uint8Array(1);
  at = 0;
  /** The source's name as JavaScript sees it; not set for an argument, which has a path. */
  private sourceBytes: Uint8Array = this.bytes;
  private sourceAt = 0;

  constructor(directory: Directory) {
    this.directory = directory;
  }

  /** An entry of a directory being read: both names are the same. hot: */
  set(directory: Directory, address: number, bytes: Uint8Array, at: number): void {
    this.directory = directory;
    this.sourceName = address;
    this.name = address;
    this.bytes = bytes;
    this.at = at;
    this.sourceBytes = bytes;
    this.sourceAt = at;
  }

  /** Gives the copy another name than its source has. */
  setName(address: number, bytes: Uint8Array, at: number): void {
    this.name = address;
    this.bytes = bytes;
    this.at = at;
  }

  /** An argument's virtual parent has no source directory. */
  get isArgument(): boolean {
    return this.directory.fields.sourceFd === At.AT_FDCWD;
  }

  /** The final name as a byte string. Allocates. */
  get text(): string {
    return nameString(this.bytes, this.at);
  }

  /** The source's name as a byte string. Allocates. */
  get sourceText(): string {
    return nameString(this.sourceBytes, this.sourceAt);
  }

  /** For messages and hard links. Allocates. */
  get place(): EntryPlace {
    const { argument, path, destinationRoot } = this.directory.fields;
    if (this.isArgument) return { argument, path: "", destinationRoot: joinPath(this.destinationDirectory, this.text) };
    const sourcePath = joinPath(path, this.sourceText);
    const destinationPath = this.name === this.sourceName ? sourcePath : joinPath(path, this.text);
    return { argument, path: sourcePath, destinationRoot, destinationPath };
  }

  /** The destination directory, absolute. */
  get destinationDirectory(): string {
    const { path, destinationRoot } = this.directory.fields;
    if (!this.isArgument) return joinPath(destinationRoot, path);
    return destinationRoot.slice(0, destinationRoot.lastIndexOf("/")) || "/";
  }
}
