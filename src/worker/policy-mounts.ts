// Where else a denied directory can be seen: mounts that show what lies inside it, as `mount --bind /secret/inner /public` makes one.
//
// A path and the inodes above it say nothing of that; the kernel's list of mounts does, by each mount's filesystem and the path within
// it. It is read once, as the job starts and before its sandbox: a mount that root makes later is not seen.

import { type ByteString, byteString } from "../bytes.ts";
import { readText } from "../ffi/read-text.ts";
import { MountTable } from "../mount-table.ts";
import { type Mount, parseMountInfo } from "../mountinfo.ts";
import type { Policy } from "../policy.ts";
import { fs } from "./late-fs.ts";

/** The rules, denying also where mounts show what is inside a denied path. `mountInfo`: the text of mountinfo as latin1. */
export function withMounts(policy: Policy, mountInfo = ownMountInfo): Policy {
  if (policy.every(({ denySources, denyDestinations }) => denySources.length + denyDestinations.length === 0)) return policy;
  const text = mountInfo();
  const table = new MountTable(text);
  const mounts = parseMountInfo(text).filter(({ root }) => root !== "");
  // What another mount hides cannot be come by, and its place is that mount's.
  const isSeen = (mount: Mount): boolean => table.find(mount.point as ByteString)?.id === mount.id;
  const denied = (paths: readonly ByteString[]): readonly ByteString[] =>
    paths.flatMap((path) => {
      const inside = placeWithin(path, table);
      if (inside === null) return [path];
      const showing = mounts.filter(({ device, root }) => device === inside.device && root.startsWith(`${inside.path}/`));
      return [path, ...showing.filter(isSeen).map(({ point }) => point as ByteString)];
    });
  return policy.map((rules) => ({
    ...rules,
    denySources: denied(rules.denySources),
    denyDestinations: denied(rules.denyDestinations),
  }));
}

/** Which filesystem a path lies on, and where in it. */
function placeWithin(path: ByteString, table: MountTable): { readonly device: string; readonly path: string } | null {
  const truePath = resolved(path);
  const mount = table.find(truePath);
  if (mount === undefined) return null;
  const rest = truePath === "/" ? "" : truePath.slice(mount.point.length);
  return { device: mount.device, path: mount.root + rest };
}

/** Without links; as it is spelt where it is not there or out of reach. */
function resolved(path: ByteString): ByteString {
  try {
    return byteString(fs().realpathSync(Buffer.from(path, "latin1"), { encoding: "buffer" }));
  } catch {
    return path;
  }
}

/** "" where it cannot be read: then descriptors have no paths either, and all that is asked about by its place is refused. */
function ownMountInfo(): string {
  return readText("/proc/self/mountinfo") ?? "";
}
