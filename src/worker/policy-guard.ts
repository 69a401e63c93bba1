// The administrator's policy where it counts: asked about what was opened, by its descriptor, its true path and its inode.
//
// A path in the settings and one in a request may both lead through links. So the settings' paths are opened once, and compared as
// what they really are; an argument, and whatever a link led to, is compared by the path that the kernel has for its descriptor and
// by each directory above it. Below an argument names lead nowhere else: there its own inode and name are enough.

import { byteString } from "../bytes.ts";
import { layout } from "../ffi/layout.ts";
import { At, libc, Open } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import { brokenFileRule, brokenPathRule, hasFileRules, isAtOrBelow, type Policy, type PolicyRules, type PolicySide } from "../policy.ts";

const pathFlags = Open.O_PATH | Open.O_CLOEXEC;
/** The kernel gives no longer paths than a page; what is deeper is not looked at from above but entered step by step. */
const maxPathBytes = 4096;
/** More levels than this are nobody's directories. */
const maxLevels = 4096;

interface DeniedInode {
  readonly side: PolicySide;
  readonly device: number;
  readonly inodeLow: number;
  readonly inodeHigh: number;
  readonly rule: string;
}

/** Names in one directory that are denied as such, whatever inode they are: an editor replaces a file by another. */
export type DeniedNames = ReadonlyMap<string, string>;

const noNames: DeniedNames = new Map();

export class PolicyGuard {
  /** With the true paths beside those of the settings. */
  private readonly policy: Policy;
  private readonly inodes: DeniedInode[] = [];
  private readonly arena = new Arena(64 * 1024);
  private readonly buffer: number;
  private readonly empty: number;
  private readonly up: number;
  private readonly stat: Stat;
  private readonly above: Stat;
  readonly hasFileRules: boolean;

  constructor(policy: Policy) {
    this.buffer = this.arena.allocate(maxPathBytes);
    this.empty = this.arena.cstring("");
    this.up = this.arena.cstring("..");
    this.stat = new Stat(this.arena.allocate(layout.statx.size));
    this.above = new Stat(this.arena.allocate(layout.statx.size));
    this.hasFileRules = hasFileRules(policy);
    this.policy = policy.map((rules) => this.resolved(rules));
  }

  /** The rule that an argument, or what a link led to, breaks by where it lies; null: none. For anything that was opened. */
  brokenByPlace(fd: number, side: PolicySide): string | null {
    const path = this.pathOf(fd);
    // What has no path that can be known cannot be allowed.
    if (path === null) return "its path cannot be known";
    return brokenPathRule(this.policy, path, side) ?? this.brokenByInodeAbove(fd, path, side);
  }

  /** As brokenByPlace for a name in a directory, which need not exist. */
  brokenByName(directoryFd: number, name: string, side: PolicySide): string | null {
    const path = this.pathOf(directoryFd);
    if (path === null) return "its path cannot be known";
    const whole = name === "." || name === "" ? path : path === "/" ? `/${name}` : `${path}/${name}`;
    return brokenPathRule(this.policy, whole, side) ?? this.brokenByInodeAbove(directoryFd, path, side);
  }

  /** As brokenByPlace for a name that is not opened to be read; `follow`: for what it leads to. */
  brokenByLook(directoryFd: number, name: number, side: PolicySide, follow: boolean): string | null {
    const fd = libc.openat(directoryFd, name, follow ? pathFlags : pathFlags | Open.O_NOFOLLOW, 0);
    if (fd < 0) return null;
    const rule = this.brokenByPlace(fd, side);
    libc.close(fd);
    return rule;
  }

  /** For what lies below an argument: whether it is itself one of the settings' paths. hot: with a policy, once an entry. */
  brokenByInode(stat: Stat, side: PolicySide): string | null {
    for (const denied of this.inodes) {
      if (denied.inodeLow !== stat.inodeLow || denied.inodeHigh !== stat.inodeHigh || denied.device !== stat.device) continue;
      if (denied.side === side) return denied.rule;
    }
    return null;
  }

  /** Which names in a directory are denied as such. */
  deniedNames(directoryFd: number, side: PolicySide): DeniedNames {
    if (this.deniedPaths(side).length === 0) return noNames;
    const path = this.pathOf(directoryFd);
    return path === null ? noNames : this.deniedNamesAt(path, side);
  }

  /** As deniedNames for a true path, where a directory need not be. */
  deniedNamesAt(path: string, side: PolicySide): DeniedNames {
    const prefix = path === "/" ? "/" : `${path}/`;
    const names = new Map<string, string>();
    for (const denied of this.deniedPaths(side)) {
      const name = denied.startsWith(prefix) ? denied.slice(prefix.length) : "/";
      if (!name.includes("/")) names.set(name, brokenPathRule(this.policy, denied, side) ?? "");
    }
    return names;
  }

  private deniedPaths(side: PolicySide): readonly string[] {
    return this.policy.flatMap((rules) => (side === "source" ? rules.denySources : rules.denyDestinations));
  }

  /** A regular file's names, its own and the copy's, and its size. */
  brokenByFile(name: string, copyName: string, size: number): string | null {
    if (!this.hasFileRules) return null;
    return brokenFileRule(this.policy, name, size) ?? (copyName === name ? null : brokenFileRule(this.policy, copyName, size));
  }

  /** Whether something below this directory may be denied: then it cannot be renamed as a whole. */
  mayDenyBelow(fd: number): boolean {
    const path = this.pathOf(fd);
    if (path === null || this.hasFileRules) return true;
    return this.policy.some(({ denySources, denyDestinations }) =>
      [...denySources, ...denyDestinations].some((denied) => isAtOrBelow(denied, path)),
    );
  }

  private brokenByInodeAbove(fd: number, path: string, side: PolicySide): string | null {
    if (this.inodes.length === 0) return null;
    const mark = this.arena.mark();
    let directory = libc.openat(fd, this.up, pathFlags | Open.O_DIRECTORY, 0);
    if (this.stat.ofDescriptor(fd, this.empty) < 0) return "its path cannot be known";
    let rule = this.brokenByInode(this.stat, side);
    // A file has no "..": the directory by its path.
    if (directory < 0) {
      const parent = path.slice(0, path.lastIndexOf("/")) || "/";
      directory = libc.openat(At.AT_FDCWD, this.arena.cstring(parent), pathFlags | Open.O_DIRECTORY, 0);
    }
    for (let level = 0; rule === null && directory >= 0 && level < maxLevels; level++) {
      if (this.stat.ofDescriptor(directory, this.empty) < 0) break;
      rule = this.brokenByInode(this.stat, side);
      const next = libc.openat(directory, this.up, pathFlags | Open.O_DIRECTORY, 0);
      const isRoot = next >= 0 && this.above.ofDescriptor(next, this.empty) === 0 && this.above.isSameFile(this.stat);
      libc.close(directory);
      if (isRoot) libc.close(next);
      directory = isRoot ? -1 : next;
    }
    if (directory >= 0) libc.close(directory);
    this.arena.reset(mark);
    return rule;
  }

  /** The rules with the true paths of their paths, whose inodes are noted. What is not there, or out of reach, is as it is spelt. */
  private resolved(rules: PolicyRules): PolicyRules {
    const denied = (paths: PolicyRules["denySources"], side: PolicySide): PolicyRules["denySources"] =>
      paths.flatMap((path) => this.resolve(path, { side, rule: brokenPathRule([rules], path, side) ?? "" }));
    return {
      ...rules,
      allowSources: rules.allowSources.flatMap((path) => this.resolve(path, null)),
      denySources: denied(rules.denySources, "source"),
      allowDestinations: rules.allowDestinations.flatMap((path) => this.resolve(path, null)),
      denyDestinations: denied(rules.denyDestinations, "destination"),
    };
  }

  private resolve(
    path: PolicyRules["denySources"][number],
    denied: { readonly side: PolicySide; readonly rule: string } | null,
  ): PolicyRules["denySources"] {
    const fd = this.arena.withString(path, (address) => libc.openat(At.AT_FDCWD, address, pathFlags, 0));
    if (fd < 0) return [path];
    const truePath = this.pathOf(fd);
    if (denied !== null && this.stat.ofDescriptor(fd, this.empty) === 0) {
      const { device, inodeLow, inodeHigh } = this.stat;
      this.inodes.push({ ...denied, device, inodeLow, inodeHigh });
    }
    libc.close(fd);
    return truePath === null || truePath === path ? [path] : [path, truePath as typeof path];
  }

  /** The kernel's own path of a descriptor, without links in it. null: it has none, or one too long. */
  pathOf(fd: number): string | null {
    const length = this.arena.withString(`/proc/self/fd/${fd}`, (address) =>
      libc.readlinkat(At.AT_FDCWD, address, this.buffer, maxPathBytes),
    );
    if (length <= 0 || length >= maxPathBytes) return null;
    const start = this.buffer - this.arena.memory.address;
    const path = byteString(this.arena.memory.bytes.subarray(start, start + length));
    return path.startsWith("/") ? path : null;
  }
}
