// Power cuts: the medium as it was at a random moment, checked and mounted, and the job goes on with the checkpoint that lay on it.
//
// The medium is an image on an xfs, whose clone of a file is a picture of one moment, also while a mounted filesystem writes to it.

import { expect } from "bun:test";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { maxPartials, pageBytes, partialsStart } from "../../src/worker/checkpoint-layout.ts";
import { expectSameTree } from "../support/compare.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { run, runChecked } from "../support/process.ts";
import { Random } from "../support/random.ts";
import { killedAfter, ResumableJob } from "../support/resumable-job.ts";
import { firstReason, testUnless } from "../support/skip.ts";

const mebibyte = 1024 * 1024;
const isLong = process.env.COPYD_TORTURE === "1";
const attempts = isLong ? 15 : 1;
/** Seconds enough for marks to be made. */
const bandwidthLimit = 25 * mebibyte;

const media = {
  ext4: { make: ["mkfs.ext4", "-q", "-F", "-m", "0"], check: ["fsck.ext4", "-fn"] },
  xfs: { make: ["mkfs.xfs", "-q", "-f"], check: ["xfs_repair", "-n"] },
  btrfs: { make: ["mkfs.btrfs", "-q", "-f"], check: ["btrfs", "check"] },
} as const;
type Kind = keyof typeof media;

function makeSource(source: string): void {
  for (let index = 0; index < 2000; index++) {
    const below = join(source, `d${index % 11}`);
    mkdirSync(below, { recursive: true });
    writeFileSync(join(below, `f${index}`), `content ${index} `.repeat(1 + ((index * 7) % 600)));
    if (index % 100 === 0) Bun.spawnSync(["ln", join(below, `f${index}`), join(source, `link${index}`)]);
    if (index % 100 === 1) Bun.spawnSync(["ln", "-s", `f${index}`, join(below, `symlink${index}`)]);
  }
  writeFileSync(join(source, "d3", "big"), Buffer.alloc(90 * mebibyte, "big "));
}

for (const kind of isLong ? (["ext4", "xfs", "btrfs"] as const) : (["ext4"] as const)) {
  const reason = firstReason(whyNoFilesystem(kind), whyNoFilesystem("xfs"));
  testUnless(
    reason,
    `${kind}: a job whose machine was switched off ends in the same tree`,
    async () => {
      const random = Random.announced();
      await using ground = await mountFilesystem("xfs", { sizeBytes: 4096 * mebibyte });
      const source = join(ground.path, "source");
      makeSource(source);
      const mountPoint = join(ground.path, "mount");
      mkdirSync(mountPoint);
      for (let attempt = 0; attempt < attempts; attempt++) await cutOnce({ kind, ground: ground.path, source, mountPoint, random });
    },
    900_000,
  );
}

interface Ground {
  readonly kind: Kind;
  readonly ground: string;
  readonly source: string;
  readonly mountPoint: string;
  readonly random: Random;
}

async function cutOnce({ kind, ground, source, mountPoint, random }: Ground): Promise<void> {
  const [image, snapshot] = [join(ground, "image"), join(ground, "snapshot")];
  await runChecked(["rm", "-f", image, snapshot]);
  await runChecked(["truncate", "-s", `${700 * mebibyte}`, image]);
  await runChecked([...media[kind].make, image], { env: { PATH: "/usr/sbin:/sbin:/usr/bin:/bin" } });
  await runChecked(["mount", "-o", "loop", image, mountPoint]);
  const records = join(mountPoint, "records");
  mkdirSync(records);
  const destination = join(mountPoint, "destination");
  const onConflict = random.pick(["fail", "rename", "overwrite", "newer"]);
  const options = { onConflict, reflink: "never", engine: "read-write", bandwidthLimit };
  using job = new ResumableJob(records, { operation: "copy", sources: [source], destination, options });
  await runChecked(["sync", "-f", mountPoint]);
  const cutMs = 200 + random.below(4000);
  await job.run({
    ...killedAfter(cutMs),
    // A clone waits for the writes that are under way, and for no others.
    beforeKill: async () => void (await runChecked(["cp", "--reflink=always", image, snapshot])),
  });
  // A job that was faster says what the medium holds after its end.
  if (!existsSync(snapshot)) await runChecked(["cp", "--reflink=always", image, snapshot]);
  job.close();
  await runChecked(["umount", mountPoint]);
  // Mounting replays the journal; what is wrong then, is wrong.
  await runChecked(["mount", "-o", "loop", snapshot, mountPoint]);
  await runChecked(["umount", mountPoint]);
  const [program, ...flags] = media[kind].check;
  const checked = await run([program, ...flags, snapshot], { env: { PATH: "/usr/sbin:/sbin:/usr/bin:/bin" } });
  expect([checked.status, checked.stdout.slice(0, 400)]).toEqual([0, expect.any(String)]);
  await runChecked(["mount", "-o", "loop", snapshot, mountPoint]);
  try {
    job.reopen();
    const whole = wholeBytes(source, destination);
    const durable = durableBytes(job.checkpointPath);
    const { end, errors, writtenBytes } = await job.run({ isSameBoot: false, killWhen: () => false });
    console.log(
      `${kind}, ${onConflict}, cut after ${cutMs} ms: ${mib(whole)} whole, ${mib(durable)} of the big one, ${mib(writtenBytes)} written`,
    );
    expect(errors).toEqual([]);
    expect(end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
    await expectSameTree(source, destination, { timeoutMs: 60_000 });
    expect(writtenBytes).toBeLessThan(bytesBelow(source) - whole - durable + 2 * mebibyte);
  } finally {
    job.close();
    await runChecked(["umount", mountPoint]);
  }
}

function mib(bytes: number): string {
  return `${Math.round(bytes / mebibyte)} MiB`;
}

function bytesBelow(at: string): number {
  const names = readdirSync(at, { recursive: true }).map(String);
  return names.reduce((sum, name) => sum + (lstatSync(join(at, name)).isFile() ? lstatSync(join(at, name)).size : 0), 0);
}

/** Bytes of the files that are there and equal: none of them need be written again. */
function wholeBytes(source: string, destination: string): number {
  if (!existsSync(destination)) return 0;
  let sum = 0;
  for (const name of readdirSync(destination, { recursive: true }).map(String)) {
    const [from, to] = [join(source, name), join(destination, name)];
    if (!existsSync(from) || !statSync(to).isFile() || !lstatSync(from).isFile()) continue;
    if (statSync(from).mtimeMs === statSync(to).mtimeMs && readFileSync(from).equals(readFileSync(to))) sum += statSync(to).size;
  }
  return sum;
}

/** Of big files under way, what the checkpoint says is on the medium. */
function durableBytes(checkpointPath: string): number {
  const bytes = readFileSync(checkpointPath);
  let sum = 0;
  for (let slot = 0; slot < maxPartials && bytes.length >= partialsStart + maxPartials * pageBytes; slot++) {
    const at = partialsStart + slot * pageBytes;
    if (bytes.readUInt32LE(at) === 1) sum += bytes.readDoubleLE(at + 72);
  }
  return sum;
}
