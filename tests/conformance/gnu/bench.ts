// What the conformance suites run on: the binary, where an ordinary user may run it, and a place for trees on each filesystem.

import { chmodSync, copyFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { type FilesystemKind, mountFilesystem } from "../../support/filesystems.ts";
import { run, runChecked } from "../../support/process.ts";
import { temporaryDirectory } from "../../support/temporary.ts";
import { asUser } from "../../support/users.ts";
import { type Bench, makePlace, type Program, userId } from "./both.ts";

const root = join(import.meta.dir, "../../..");

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
  return { copyd: await binary(home.path), program, places };
}

/** The binary, built where it is older than its sources, at a place where an ordinary user may run it. */
async function binary(home: string): Promise<string> {
  const built = join(root, "dist/copyd");
  if (process.env.COPYD_BINARY === undefined) await runChecked(["make", "build"], { cwd: root, timeoutMs: 200_000 });
  const path = process.env.COPYD_BINARY ?? built;
  const reachable = await run(asUser({ uid: userId, gid: userId }, ["test", "-x", path]));
  if (reachable.status === 0) return path;
  copyFileSync(path, `${home}/copyd`);
  chmodSync(`${home}/copyd`, 0o755);
  return `${home}/copyd`;
}
