// What a job's arguments are mounted on, so that a job that comes back waits for a stick or a server that is not there yet. Pure.
//
// Paths are taken as they stand: a symbolic link that leads into another filesystem counts where it lies itself.

import type { ByteString } from "../bytes.ts";
import type { MountTable } from "../mount-table.ts";
import type { JobRequest } from "../request.ts";

export interface JobMount {
  /** Latin1, as all paths. */
  readonly point: string;
  readonly type: string;
  /** server:/path and the like; "" for a device, whose name may be another one next time. */
  readonly source: string;
}

/** Mounted on demand: with this one there, whoever looks gets the other. */
const automatic = "autofs";
/** Jobs with more are rare, and waiting for these is enough. */
const maxMounts = 64;

/** The mounts below the root directory that a request's paths lie on, each once. */
export function mountsOf({ sources, destination }: Pick<JobRequest, "sources" | "destination">, table: MountTable): JobMount[] {
  const found = new Map<string, JobMount>();
  for (const path of [destination, ...sources]) {
    const mount = table.find(path);
    if (mount === undefined || mount.point === "" || found.size >= maxMounts) continue;
    const { point, type, source } = mount;
    found.set(point, { point, type, source: source.startsWith("/dev/") ? "" : source });
  }
  return [...found.values()];
}

/** The first of a job's mounts that is not there; null where all are. */
export function missingMount(wanted: readonly JobMount[], table: MountTable): JobMount | null {
  return wanted.find((one) => !isThere(one, table)) ?? null;
}

function isThere({ point, type, source }: JobMount, table: MountTable): boolean {
  const mount = table.find(point as ByteString);
  if (mount?.point !== point) return false;
  return mount.type === automatic || (mount.type === type && (source === "" || mount.source === source));
}
