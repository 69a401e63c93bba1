// Power cuts during moves: what had its source removed is on the medium, and the job goes on to the whole tree.
//
// The source stands on a filesystem that loses nothing and the destination on one that loses all that was not flushed: the worst that
// two filesystems can do to each other.

import { expect } from "bun:test";
import { existsSync, linkSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { WorkerHandle } from "../../src/worker/pool.ts";
import { expectSameTree } from "../support/compare.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { runChecked } from "../support/process.ts";
import { Random } from "../support/random.ts";
import { countBelow, killedAfter, ResumableJob } from "../support/resumable-job.ts";
import { firstReason, testUnless } from "../support/skip.ts";

const mebibyte = 1024 * 1024;
const isLong = process.env.COPYD_TORTURE === "1";
const cuts = isLong ? 12 : 1;
const environment = { PATH: "/usr/sbin:/sbin:/usr/bin:/bin" };
const makers = { ext4: ["mkfs.ext4", "-q", "-F", "-m", "0"], xfs: ["mkfs.xfs", "-q", "-f"] } as const;
type Kind = keyof typeof makers;
type Phase = "copy" | "removal";

function makeTree(tree: string): void {
  for (let index = 0; index < 600; index++) {
    const below = join(tree, `d${index % 7}`);
    mkdirSync(below, { recursive: true });
    writeFileSync(join(below, `f${index}`), `content ${index} `.repeat(1 + ((index * 7) % 900)));
    if (index % 50 === 0) linkSync(join(below, `f${index}`), join(tree, `link${index}`));
    if (index % 50 === 1) symlinkSync(`f${index}`, join(below, `symlink${index}`));
  }
  writeFileSync(join(tree, "d3", "big"), Buffer.alloc(16 * mebibyte, "big "));
}

const reason = firstReason(whyNoFilesystem("ext4"), whyNoFilesystem("xfs"));
for (const kind of isLong ? (["ext4", "xfs"] as const) : (["ext4"] as const)) {
  for (const phase of ["copy", "removal"] as const) {
    testUnless(
      reason,
      `${kind}: a move whose machine is switched off in its ${phase} loses nothing`,
      async () => {
        const random = Random.announced();
        await using ground = await mountFilesystem("xfs", { sizeBytes: 2048 * mebibyte });
        makeTree(join(ground.path, "whole"));
        mkdirSync(join(ground.path, "mount"));
        for (let cut = 0; cut < cuts; cut++) await cutOnce(kind, phase, ground.path, random);
      },
      600_000,
    );
  }
}

async function cutOnce(kind: Kind, phase: Phase, ground: string, random: Random): Promise<void> {
  const at = (name: string): string => join(ground, name);
  const [image, snapshot, mountPoint, source] = ["image", "snapshot", "mount", "source"].map(at) as [string, string, string, string];
  for (const old of [image, snapshot, source]) rmSync(old, { recursive: true, force: true });
  await runChecked(["cp", "-a", at("whole"), source]);
  await runChecked(["truncate", "-s", `${400 * mebibyte}`, image]);
  await runChecked([...makers[kind], image], { env: environment });
  await runChecked(["mount", "-o", "loop", image, mountPoint]);
  const [records, destination] = [join(mountPoint, "records"), join(mountPoint, "destination")];
  mkdirSync(records);
  const onConflict = random.pick(["fail", "skip", "overwrite", "newer", "differs"]);
  const options = { target: "exact", onConflict, reflink: "never", engine: "read-write", bandwidthLimit: 9 * mebibyte };
  using job = new ResumableJob(records, { operation: "move", sources: [source], destination, options });
  await runChecked(["sync", "-f", mountPoint]);
  const cutMs = random.below(2500);
  const left = random.below(countBelow(source));
  const cut = killedAfter(cutMs);
  const isTime = (worker: WorkerHandle): boolean => (phase === "copy" ? cut.killWhen(worker) : countBelow(source) <= left);
  const { end } = await job.run({
    onMessage: cut.onMessage,
    killWhen: (worker) => {
      if (!isTime(worker)) return false;
      try {
        // Nothing more is removed while the picture is taken.
        process.kill(worker.pid, "SIGSTOP");
      } catch {
        // It has ended: the picture is of what its result stands for.
      }
      return true;
    },
    beforeKill: async () => void (await runChecked(["cp", "--reflink=always", image, snapshot])),
  });
  if (!existsSync(snapshot)) await runChecked(["cp", "--reflink=always", image, snapshot]);
  const remaining = countBelow(source);
  job.close();
  let isOpen = false;
  await runChecked(["umount", mountPoint]);
  await runChecked(["mount", "-o", "loop", snapshot, mountPoint]);
  try {
    expect([kind, phase, onConflict, lostOf(at("whole"), source, destination)]).toEqual([kind, phase, onConflict, []]);
    console.log(`${kind}, ${onConflict}, cut in the ${phase}: ${remaining} entries left at the source, ${countBelow(destination)} there`);
    if (end.kind !== "failed") return;
    job.reopen();
    isOpen = true;
    const last = await job.run({ isSameBoot: false });
    expect(last.errors).toEqual([]);
    expect(last.end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
    await expectSameTree(at("whole"), destination, { timeoutMs: 60_000 });
    expect(existsSync(source)).toBe(false);
  } finally {
    if (isOpen) job.close();
    await runChecked(["umount", mountPoint]);
  }
}

/** Files that are whole neither here nor there. */
function lostOf(whole: string, source: string, destination: string): string[] {
  const names = readdirSync(whole, { recursive: true }).map(String);
  return names.filter((name) => {
    if (!lstatSync(join(whole, name)).isFile()) return false;
    const content = readFileSync(join(whole, name));
    return ![source, destination].some((at) => existsSync(join(at, name)) && readFileSync(join(at, name)).equals(content));
  });
}
