// One control group for the workers of each user, so that the kernel limits what all of them together take of the machine.
//
// Below the service's own group, which its unit gives to it (Delegate=): `daemon`, in which the service itself is, since a group with
// limits for groups below may hold no process; and `user-UID`. Version 2 only. Where anything of it is not to be had, workers run
// as they always did, and the log says once why.

import { existsSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { WorkerGroup } from "../worker/pool.ts";
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
  private limits: UserGroupLimits;
  private readonly base: string;
  private readonly log: JobsLog;
  private readonly lingerMs: number;
  /** Workers in the group of each user; 0 while it lingers. */
  private readonly workers = new Map<number, number>();

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
    this.removeStrays();
  }

  /** What callers may know of it. */
  get features(): readonly string[] {
    return [...this.limited].map((controller) => controllerFeatures[controller]);
  }

  /** The group for one more worker of this user; null, which the log is told, where there is none to be had. */
  enter(uid: number): WorkerGroup | null {
    const path = this.pathOf(uid);
    try {
      if (makeGroup(path) || !this.workers.has(uid)) this.writeLimits(path);
    } catch (cause) {
      this.log.warning("a worker runs outside its user's control group", { uid, reason: reasonOf(cause) });
      return null;
    }
    this.workers.set(uid, (this.workers.get(uid) ?? 0) + 1);
    let hasLeft = false;
    const left = (): void => {
      if (!hasLeft) this.leave(uid);
      hasLeft = true;
    };
    return { path, left };
  }

  /** From now on, for the groups that are there as well. */
  setLimits(limits: UserGroupLimits): void {
    this.limits = limits;
    for (const uid of this.workers.keys()) {
      try {
        this.writeLimits(this.pathOf(uid));
      } catch (cause) {
        this.log.warning("the limits of a user's control group stay as they were", { uid, reason: reasonOf(cause) });
      }
    }
  }

  private leave(uid: number): void {
    const left = (this.workers.get(uid) ?? 1) - 1;
    this.workers.set(uid, left);
    if (left > 0) return;
    // Whatever a worker that was taken over has started goes with the user's last.
    killAll(this.pathOf(uid));
    setTimeout(() => this.removeUnused(uid), this.lingerMs).unref();
  }

  private removeUnused(uid: number): void {
    if (this.workers.get(uid) !== 0 || !removeGroup(this.pathOf(uid))) return;
    this.workers.delete(uid);
  }

  /** Of a service that was killed. Its workers were as well, by the kernel; what they may have started is not anybody's. */
  private removeStrays(): void {
    for (const name of readdirSync(this.base)) {
      if (!/^user-\d+$/.test(name)) continue;
      const path = join(this.base, name);
      killAll(path);
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

  private pathOf(uid: number): string {
    return join(this.base, `user-${uid}`);
  }
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

function whyNotEnabled(base: string, controller: Controller): string | null {
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
