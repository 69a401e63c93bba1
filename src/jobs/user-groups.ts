// One control group for the workers of each user, so that the kernel limits what all of them together take of the machine.
//
// Below the service's own group, which its unit gives to it (Delegate=): `daemon`, in which the service itself is, since a group with
// limits for groups below may hold no process; and `user-UID`. Version 2 only. Where anything of it is not to be had, workers run
// as they always did, and the log says once why.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { JobsLog } from "./log.ts";
import { controllersOf, ownCgroup } from "./own-cgroup.ts";

export interface UserGroupLimits {
  /** Bytes of memory of all workers of one user, their page cache and what they write to a tmpfs included; 0: no limit. */
  readonly memoryBytes: number;
  /** Processes and threads of all workers of one user; 0: no limit. */
  readonly processes: number;
}

/** A controller, and the feature that says that it limits users here. */
export const controllerFeatures = { memory: "limit:worker-memory", pids: "limit:worker-processes" } as const;
type Controller = keyof typeof controllerFeatures;
const controllers = Object.keys(controllerFeatures) as Controller[];

/** The unit says with this variable that the service's group is its own: nothing in the group itself tells who else manages it. */
export const delegationVariable = "COPYD_DELEGATED";

/**
 * How long a group stays without workers. What they left in the page cache is charged to it and keeps it in the kernel for as long,
 * removed or not: a group for each of a thousand small jobs would be a thousand of them.
 */
const defaultLingerMs = 60_000;
/** How long killed processes are given to be gone before their group is removed; if they are not, the next worker or start removes it. */
const dyingMs = 1000;
/** Former groups of one user with processes that do not end, stuck in the kernel as they must be. */
const maxDyingGroups = 16;

/** Calls are answered while workers compute: the service has so much for each 100 of a user's workers. */
const ownProcessorWeight = 1000;

/** A user's group, as one worker has it. */
export interface EnteredGroup {
  /** Absolute. */
  readonly path: string;
  /** Called when no process of the worker is there any more, or none that could be ended. */
  readonly left: () => void;
}

export interface UserGroupsOptions {
  readonly limits: UserGroupLimits;
  readonly log: JobsLog;
  readonly lingerMs?: number;
}

/** The groups of this service, or why there are none. Moves this process into one of them, so it goes before all children. */
export function openUserGroups(
  environment: Readonly<Record<string, string | undefined>>,
  options: UserGroupsOptions,
): UserGroups | { readonly reason: string } {
  if (environment[delegationVariable] !== "1") return { reason: "the service has no control group of its own (Delegate= of its unit)" };
  try {
    const own = ownCgroup();
    if (own === null) return { reason: "no control groups of version 2 are mounted" };
    // The root of all groups has no such file; it is the machine's.
    if (!existsSync(join(own, "cgroup.events"))) return { reason: "the service runs in the root control group" };
    return new UserGroups(basename(own) === "daemon" ? dirname(own) : own, options);
  } catch (cause) {
    return { reason: `the service's control group cannot be divided: ${reasonOf(cause)}` };
  }
}

export class UserGroups {
  /** What the kernel limits here. */
  readonly limited: ReadonlySet<Controller>;
  /** Why it does not limit the rest: controller and reason. */
  readonly missing: ReadonlyMap<Controller, string>;
  /** Whether each user's workers together have the same share of the processors, and the service more. */
  readonly sharesProcessors: boolean;
  private limits: UserGroupLimits;
  private readonly base: string;
  private readonly log: JobsLog;
  private readonly lingerMs: number;
  private readonly groups = new Map<number, UserGroup>();

  /** `base`: the group that is to be divided. Throws what the kernel says where it cannot be. */
  constructor(base: string, { limits, log, lingerMs = defaultLingerMs }: UserGroupsOptions) {
    this.base = base;
    this.limits = limits;
    this.log = log;
    this.lingerMs = lingerMs;
    makeGroup(join(base, "daemon"));
    writeFileSync(join(base, "daemon/cgroup.procs"), String(process.pid));
    const missing = new Map<Controller, string>();
    for (const controller of controllers) {
      const reason = whyNotEnabled(base, controller);
      if (reason !== null) missing.set(controller, reason);
    }
    this.missing = missing;
    this.limited = new Set(controllers.filter((controller) => !missing.has(controller)));
    this.sharesProcessors = whyNotEnabled(base, "cpu") === null;
    if (this.sharesProcessors) writeFileSync(join(base, "daemon/cpu.weight"), String(ownProcessorWeight));
    this.removeStrays();
  }

  /** What callers may know of it. */
  get features(): readonly string[] {
    return [...this.limited].map((controller) => controllerFeatures[controller]);
  }

  /** The group for one more worker of this user; null, which the log is told, where there is none to be had. */
  enter(uid: number): EnteredGroup | null {
    let group: UserGroup;
    try {
      group = this.groupOf(uid);
    } catch (cause) {
      this.log.warning("a worker runs outside its user's control group", { uid, reason: reasonOf(cause) });
      return null;
    }
    clearTimeout(group.timer);
    group.workers++;
    let hasLeft = false;
    const left = (): void => {
      if (!hasLeft) this.leave(uid, group);
      hasLeft = true;
    };
    return { path: group.path, left };
  }

  /** From now on, for the groups that are there as well. */
  setLimits(limits: UserGroupLimits): void {
    this.limits = limits;
    for (const [uid, { path }] of this.groups) {
      try {
        this.writeLimits(path);
      } catch (cause) {
        this.log.warning("the limits of a user's control group stay as they were", { uid, reason: reasonOf(cause) });
      }
    }
  }

  private groupOf(uid: number): UserGroup {
    const known = this.groups.get(uid);
    if (known !== undefined && existsSync(known.path)) return known;
    const path = makeFreshGroup(join(this.base, `user-${uid}`));
    this.writeLimits(path);
    const group: UserGroup = { path, workers: 0, timer: undefined };
    this.groups.set(uid, group);
    return group;
  }

  private leave(uid: number, group: UserGroup): void {
    if (--group.workers > 0) return;
    const isLeftBehind = isPopulated(group.path);
    if (isLeftBehind) {
      // Whatever a worker that was taken over has started goes with the user's last; the next worker gets another group.
      this.forget(uid, group);
      killAll(group.path);
    }
    const remove = (): void => {
      if (removeGroup(group.path)) this.forget(uid, group);
    };
    group.timer = setTimeout(remove, isLeftBehind ? dyingMs : this.lingerMs).unref();
  }

  private forget(uid: number, group: UserGroup): void {
    if (this.groups.get(uid) === group) this.groups.delete(uid);
  }

  /** Of a service that was killed. Its workers were as well, by the kernel; what they may have started is not anybody's. */
  private removeStrays(): void {
    for (const name of readdirSync(this.base)) {
      if (!name.startsWith("user-")) continue;
      const path = join(this.base, name);
      if (isPopulated(path)) killAll(path);
      removeGroup(path);
    }
  }

  /**
   * Not memory.high, which would slow a worker that takes too much down to nothing: it would never end, and nobody would be told why.
   * Not memory.swap.max: what lies in a tmpfs could not be swapped out.
   */
  private writeLimits(path: string): void {
    const { memoryBytes, processes } = this.limits;
    if (this.limited.has("memory")) writeFileSync(join(path, "memory.max"), memoryBytes === 0 ? "max" : String(memoryBytes));
    if (this.limited.has("pids")) writeFileSync(join(path, "pids.max"), processes === 0 ? "max" : String(processes));
  }
}

interface UserGroup {
  readonly path: string;
  /** 0 while it lingers. */
  workers: number;
  timer: ReturnType<typeof setTimeout> | undefined;
}

/** False when it was there. */
function makeGroup(path: string): boolean {
  try {
    mkdirSync(path);
    return true;
  } catch (cause) {
    if (codeOf(cause) === "EEXIST") return false;
    throw cause;
  }
}

/**
 * A group under this name in which nobody ever was, or, where an old one with it cannot be removed yet, under the name and a number.
 * It has to be new: some kernels (seen: 6.1.176, 6.18) kill whatever is cloned into a group that has once been told to kill.
 */
function makeFreshGroup(path: string): string {
  for (let attempt = 1; ; attempt++) {
    const candidate = attempt === 1 ? path : `${path}-${attempt}`;
    if (makeGroup(candidate) || (removeGroup(candidate) && makeGroup(candidate))) return candidate;
    if (attempt === maxDyingGroups) throw new Error("too many former groups of this user have not ended yet");
  }
}

function isPopulated(path: string): boolean {
  try {
    return /^populated 1$/m.test(readFileSync(join(path, "cgroup.events"), "latin1"));
  } catch (cause) {
    if (codeOf(cause) === "ENOENT") return false;
    throw cause;
  }
}

/** False when somebody is in it still: stuck in the kernel, or not yet gone. */
function removeGroup(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (cause) {
    return codeOf(cause) === "ENOENT";
  }
}

/** Where the kernel can (Linux 5.14); elsewhere who is left is left to systemd, which ends all of them with the service. */
function killAll(path: string): void {
  const kill = join(path, "cgroup.kill");
  if (existsSync(kill)) writeFileSync(kill, "1");
}

function whyNotEnabled(base: string, controller: Controller | "cpu"): string | null {
  if (!controllersOf(base).includes(controller)) return "not a controller of the service's group";
  try {
    writeFileSync(join(base, "cgroup.subtree_control"), `+${controller}`);
    return null;
  } catch (cause) {
    return reasonOf(cause);
  }
}

function codeOf(cause: unknown): string {
  return cause instanceof Error && "code" in cause ? String(cause.code) : "";
}

function reasonOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
