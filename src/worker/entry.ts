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
  }

  /** An argument's virtual parent has no source directory. */
  get isArgument(): boolean {
    return this.directory.fields.sourceFd === At.AT_FDCWD;
  }

  /** The final name as a byte string. Allocates. */
  get text(): string {
    return nameString(this.bytes, this.at);
  }

  /** For messages and hard links. Allocates. */
  get place(): EntryPlace {
    const { argument, path, destinationRoot } = this.directory.fields;
    if (this.isArgument) return { argument, path: "", destinationRoot };
    return { argument, path: joinPath(path, this.text), destinationRoot };
  }

  /** The destination directory, absolute. */
  get destinationDirectory(): string {
    const { path, destinationRoot } = this.directory.fields;
    if (!this.isArgument) return joinPath(destinationRoot, path);
    return destinationRoot.slice(0, destinationRoot.lastIndexOf("/")) || "/";
  }
}
