// Which mount a path lies on, by the text of mountinfo alone: no file is touched, so none can hang. Pure.

import type { ByteString } from "./bytes.ts";
import { type Mount, namesOf, parseMountInfo } from "./mountinfo.ts";

interface Place {
  readonly mount: Mount;
  /** The path without "." and "..", "" for the root. */
  readonly prefix: string;
}

const maxKnown = 256;

export class MountTable {
  private readonly root: Mount | undefined;
  /** By the mount that they lie upon and where: the way the kernel walks, so that what another mount hides is never found. */
  private readonly mounted = new Map<string, Mount>();
  /** Directories that were asked about last. */
  private readonly known = new Map<string, Place>();

  constructor(text: string) {
    const mounts = parseMountInfo(text);
    const ids = new Set(mounts.map(({ id }) => id));
    // What the root itself is mounted on is not listed, or is itself.
    this.root = mounts.find(({ id, parent, point }) => point === "" && (parent === id || !ids.has(parent)));
    for (const mount of mounts) this.mounted.set(placeOf(mount.parent, mount.point), mount);
  }

  /** The mount of an absolute path, symbolic links taken for what they are; undefined where not even the root is known. */
  find(path: ByteString): Mount | undefined {
    if (this.root === undefined) return undefined;
    const cut = path.lastIndexOf("/");
    const name = path.slice(cut + 1);
    if (name === "" || name === "." || name === "..") return this.walk(this.root, path).mount;
    // Thousands of files of one directory are asked about at once.
    const { mount, prefix } = this.directory(this.root, path.slice(0, cut));
    return this.topmost(mount, `${prefix}/${name}`);
  }

  private directory(root: Mount, path: string): Place {
    const known = this.known.get(path);
    if (known !== undefined) return known;
    const place = this.walk(root, path);
    if (this.known.size >= maxKnown) this.known.clear();
    this.known.set(path, place);
    return place;
  }

  private walk(root: Mount, path: string): Place {
    let mount = this.topmost(root, "");
    let prefix = "";
    for (const name of namesOf(path)) {
      prefix += `/${name}`;
      mount = this.topmost(mount, prefix);
    }
    return { mount, prefix };
  }

  private topmost(lowest: Mount, point: string): Mount {
    let top = lowest;
    for (let next = this.on(top, point); next !== undefined && next !== top; next = this.on(top, point)) top = next;
    return top;
  }

  private on({ id }: Mount, point: string): Mount | undefined {
    return this.mounted.get(placeOf(id, point));
  }
}

function placeOf(parent: string, point: string): string {
  return `${parent}\0${point}`;
}
