// What the conformance suites run on: the binary, where an ordinary user may run it, and a place for trees on each filesystem.

import { chmodSync, copyFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { privateBus, whyNoBus } from "../../support/bus.ts";
import { type DaemonProcess, startDaemon } from "../../support/daemon.ts";
import { type FilesystemKind, mountFilesystem } from "../../support/filesystems.ts";
import { run, runChecked } from "../../support/process.ts";
import { firstReason } from "../../support/skip.ts";
import { temporaryDirectory } from "../../support/temporary.ts";
import { asUser, type Identity, passwdUsers, whyNoPasswdUsers } from "../../support/users.ts";
import { type Bench, makePlace, type Program } from "./both.ts";

const root = join(import.meta.dir, "../../..");

/** Nobody else on the machine has this number: for the embedded mode, which asks no user database. */
const unlisted: Identity = { uid: 1_234_567, gid: 1_234_567 };

/** Why ours cannot run through a service here, or null. */
export function whyNoService(): string | null {
  return firstReason(whyNoBus(), whyNoPasswdUsers());
}

/** Disposing of `held` takes it all away again. */
export async function prepareBench(program: Program, kinds: readonly FilesystemKind[], held: AsyncDisposable[]): Promise<Bench> {
  const home = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
  held.push(home);
  chmodSync(home.path, 0o755);
  const places: Partial<Record<FilesystemKind, string>> = { tmpfs: makePlace(`${home.path}/trees`) };
  for (const kind of kinds) {
    const filesystem = await mountFilesystem(kind, { sizeBytes: 400 * 1024 * 1024 });
    held.push(filesystem);
    places[kind] = filesystem.path;
  }
  return { copyd: await binary(home.path, unlisted), program, user: unlisted, busAddress: null, places };
}

/** The bench with a daemon on a bus of its own, which runs as long as `held` is held. */
export async function addService(
  bench: Bench,
  held: AsyncDisposable[],
): Promise<{ readonly bench: Bench; readonly daemon: DaemonProcess }> {
  const users = await passwdUsers();
  held.unshift(users);
  const bus = await privateBus({ kind: "system" });
  held.unshift(bus);
  const daemon = await startDaemon(bus, [], [bench.copyd, "daemon"]);
  held.unshift(daemon);
  return { bench: { ...bench, user: users.first, busAddress: bus.address }, daemon };
}

/** The binary, built where it is older than its sources, at a place where an ordinary user may run it. */
async function binary(home: string, user: Identity): Promise<string> {
  const built = join(root, "dist/copyd");
  if (process.env.COPYD_BINARY === undefined) await runChecked(["make", "build"], { cwd: root, timeoutMs: 200_000 });
  const path = process.env.COPYD_BINARY ?? built;
  const reachable = await run(asUser(user, ["test", "-x", path]));
  if (reachable.status === 0) return path;
  copyFileSync(path, `${home}/copyd`);
  chmodSync(`${home}/copyd`, 0o755);
  return `${home}/copyd`;
}
