// Which mount a path lies on, by the text of mountinfo alone: no file is touched, so none can hang. Pure.

import type { ByteString } from "../bytes.ts";

/** A line of mountinfo, proc_pid_mountinfo(5). Texts are latin1, so that names stay bytes. */
export interface Mount {
  readonly id: string;
  readonly parent: string;
  /** "major:minor" of the filesystem; major 0 where no one device is behind it. */
  readonly device: string;
  /** Where it is mounted; "" is the root. */
  readonly point: string;
  /** "ext4", "btrfs", "fuse.sshfs". */
  readonly type: string;
  /** What was given to mount: a device, a server's path, or any word. */
  readonly source: string;
  /** The filesystem's own options, as "rw", "lowerdir=/a". */
  readonly options: readonly string[];
}

export class MountTable {
  private readonly root: Mount | undefined;
  /** By the mount that they lie upon and where: the way the kernel walks, so that what another mount hides is never found. */
  private readonly mounted = new Map<string, Mount>();

  constructor(text: string) {
    const mounts = text.split("\n").flatMap(mountOf);
    const ids = new Set(mounts.map(({ id }) => id));
    // What the root itself is mounted on is not listed, or is itself.
    this.root = mounts.find(({ id, parent, point }) => point === "" && (parent === id || !ids.has(parent)));
    for (const mount of mounts) this.mounted.set(placeOf(mount.parent, mount.point), mount);
  }

  /** The mount of an absolute path, symbolic links taken for what they are; undefined where not even the root is known. */
  find(path: ByteString): Mount | undefined {
    if (this.root === undefined) return undefined;
    let mount = this.topmost(this.root, "");
    let prefix = "";
    for (const name of namesOf(path)) {
      prefix += `/${name}`;
      mount = this.topmost(mount, prefix);
    }
    return mount;
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

function mountOf(line: string): Mount[] {
  // Any number of optional fields stands before the hyphen.
  const [before, after] = line.split(" - ", 2);
  const [id, parent, device, , point] = (before ?? "").split(" ");
  const [type, source, options] = (after ?? "").split(" ");
  if (id === undefined || parent === undefined || device === undefined || point === undefined) return [];
  if (type === undefined || source === undefined || options === undefined) return [];
  return [
    { id, parent, device, point: point === "/" ? "" : unescaped(point), type, source: unescaped(source), options: optionsOf(options) },
  ];
}

function optionsOf(text: string): string[] {
  return text.split(",").map(unescaped);
}

/** Blank, tab, newline and backslash are written as octal numbers. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

function namesOf(path: string): string[] {
  const names: string[] = [];
  for (const name of path.split("/")) {
    if (name === "..") names.pop();
    else if (name !== "" && name !== ".") names.push(name);
  }
  return names;
}
