// Where two processes differ in what they see at a path, worked out from their mountinfo: no file is touched, so none can hang. Pure.
//
// The time it takes grows with the texts and the paths and nothing else: a user may fill a namespace with mounts. A process's
// mountinfo lists the mounts below its root directory, by paths from there.

import { type Mount, namesOf, parseMountInfo } from "../mountinfo.ts";

interface View {
  /** What the root directory is; undefined where it is no mount, which is a chroot. */
  readonly root: Mount | undefined;
  readonly mounts: readonly Mount[];
}

/** One place at which something is mounted in either view, or on the way to one. */
class Place {
  readonly above: Place | null;
  readonly below = new Map<string, Place>();
  /** What is mounted here, by the ID of the mount that it lies upon. */
  readonly ours = new Map<string, Mount>();
  readonly theirs = new Map<string, Mount>();
  isSame = true;
  isSameBelow = true;

  constructor(above: Place | null) {
    this.above = above;
  }
}

/** Two views of the files, compared; made from two texts of mountinfo as latin1, so that names stay bytes. */
export class MountComparison {
  private readonly top = new Place(null);
  private readonly isSameRoot: boolean;

  constructor(oursText: string, theirsText: string) {
    const ours = viewOf(oursText);
    const theirs = viewOf(theirsText);
    this.isSameRoot = ours.root !== undefined && theirs.root !== undefined && isSameAt("", ours.root, theirs.root);
    if (ours.root === undefined || theirs.root === undefined || !this.isSameRoot) return;
    for (const mount of ours.mounts) this.placeOf(mount.point).ours.set(mount.parent, mount);
    for (const mount of theirs.mounts) this.placeOf(mount.point).theirs.set(mount.parent, mount);
    this.compare(ours.root, theirs.root);
  }

  /**
   * The first of these absolute paths that does not lead to the same files in both views, with all that is mounted below it; null
   * where each does. Symbolic links are taken for what they are, not followed. Other root directories: every path differs.
   */
  firstDifference<Path extends string>(paths: readonly Path[]): Path | null {
    if (!this.isSameRoot) return paths[0] ?? null;
    return paths.find((path) => this.differs(path)) ?? null;
  }

  private differs(path: string): boolean {
    let place = this.top;
    for (const name of namesOf(path)) {
      const next = place.below.get(name);
      if (next === undefined) return !place.isSame;
      place = next;
    }
    return !place.isSame || !place.isSameBelow;
  }

  private placeOf(point: string): Place {
    let place = this.top;
    for (const name of namesOf(point)) {
      let next = place.below.get(name);
      if (next === undefined) {
        next = new Place(place);
        place.below.set(name, next);
      }
      place = next;
    }
    return place;
  }

  // From mount to mount as the kernel walks: what another mount hides is never come by.
  private compare(ourRoot: Mount, theirRoot: Mount): void {
    const open = [{ place: this.top, path: "", ours: ourRoot, theirs: theirRoot, isSame: true }];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      const { place, path } = next;
      const ours = topmost(place.ours, next.ours);
      const theirs = topmost(place.theirs, next.theirs);
      const isSame = ours === next.ours && theirs === next.theirs ? next.isSame : isSameAt(path, ours, theirs);
      place.isSame = isSame;
      for (let above = place.above; !isSame && above?.isSameBelow; above = above.above) above.isSameBelow = false;
      for (const [name, below] of place.below) open.push({ place: below, path: `${path}/${name}`, ours, theirs, isSame });
    }
  }
}

function topmost(mounted: ReadonlyMap<string, Mount>, lowest: Mount): Mount {
  let top = lowest;
  for (let next = mounted.get(top.id); next !== undefined && next !== top; next = mounted.get(top.id)) top = next;
  return top;
}

/** Whether a path that lies on these two mounts is one place of one filesystem. */
function isSameAt(path: string, ours: Mount, theirs: Mount): boolean {
  return ours.device === theirs.device && ours.root + path.slice(ours.point.length) === theirs.root + path.slice(theirs.point.length);
}

function viewOf(text: string): View {
  const mounts = parseMountInfo(text);
  const ids = new Set(mounts.map(({ id }) => id));
  // What the root itself is mounted on is not listed, or is itself.
  const root = mounts.find(({ id, parent, point }) => point === "" && (parent === id || !ids.has(parent)));
  return { root, mounts };
}
