// Whether a caller means by its paths the files that we mean by them: a caller in a container, a chroot or a sandbox does not.
//
// Compared is where the given paths lead, not the mount namespace: services with PrivateTmp= and the like live in namespaces of
// their own and yet mean the same files nearly everywhere. It is read from mountinfo, which needs neither the right to ptrace the
// caller, which the service does not have, nor any call into a filesystem that may hang.

import { closeSync, openSync, read, readSync } from "node:fs";
import { type ByteString, displayText } from "../bytes.ts";
import { CopyError } from "../errors.ts";
import type { JobRequest } from "../request.ts";
import { MountComparison } from "./mount-views.ts";
import { excerpt } from "./paths.ts";

/** Some ten thousand mounts. Anybody can make as many in a user namespace; comparing these takes some ten milliseconds. */
const maxMountInfoBytes = 1024 * 1024;
const chunkBytes = 64 * 1024;
/** A mount or umount between the two reads looks like a difference once. */
const attempts = 2;

/**
 * Throws sandboxed-caller when the process is known to see other files by the request's paths than this process does. A process
 * that is unknown (null), gone, or not to be looked at is let pass: to be refused takes knowledge.
 */
export async function requireSameView(pid: number | null, uid: number, { sources, destination }: JobRequest): Promise<void> {
  if (pid === null) return;
  // Together: each of them may take several turns.
  const owned = belongsTo(pid, uid);
  let different: ByteString | null = null;
  for (let attempt = 0; attempt < attempts; attempt++) {
    const mountInfos = [`/proc/${pid}/mountinfo`, "/proc/self/mountinfo"].map(beginningOf);
    const [isTheirs, theirs = "", ours = ""] = await Promise.all([owned, ...mountInfos]);
    if (!isTheirs) return;
    // Mounts have numbers of their own in each namespace: equal texts are one namespace with one root directory.
    if (theirs === "" || ours === "" || theirs === ours) return;
    const isWhole = Math.max(theirs.length, ours.length) < maxMountInfoBytes;
    different = isWhole ? new MountComparison(ours, theirs).firstDifference([destination, ...sources]) : destination;
    if (different === null) return;
  }
  const path = excerpt(displayText(different ?? destination));
  throw new CopyError("sandboxed-caller", `'${path}' leads elsewhere for the service than for the caller, who lives among other mounts`);
}

/** The bus tells the number that the process had when it connected; it may have ended since, and another got the number. */
async function belongsTo(pid: number, uid: number): Promise<boolean> {
  const ids = /^Uid:([\s\d]+)$/m.exec(await beginningOf(`/proc/${pid}/status`))?.[1] ?? "";
  return ids.trim().split(/\s+/).includes(String(uid));
}

/** As latin1; "" for a process that is gone, or hidden from us by hidepid=. */
async function beginningOf(path: string): Promise<string> {
  try {
    const fd = openSync(path, "r");
    try {
      const chunks: Buffer[] = [];
      for (let length = 0; length < maxMountInfoBytes; ) {
        const buffer = Buffer.allocUnsafe(Math.min(maxMountInfoBytes - length, chunkBytes));
        // What nearly all processes have takes less time to read than to be read by another thread; what takes longer holds up nobody.
        const bytesRead = length < chunkBytes ? readSync(fd, buffer) : await readLater(fd, buffer);
        if (bytesRead === 0) break;
        chunks.push(buffer.subarray(0, bytesRead));
        length += bytesRead;
      }
      return Buffer.concat(chunks).toString("latin1");
    } finally {
      closeSync(fd);
    }
  } catch {
    // ENOENT, ESRCH, EACCES: then nothing is known of it.
    return "";
  }
}

async function readLater(fd: number, buffer: Buffer): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  read(fd, buffer, 0, buffer.length, null, (error, bytesRead) => (error === null ? resolve(bytesRead) : reject(error)));
  return await promise;
}
