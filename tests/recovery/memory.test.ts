// A large tree is copied in little memory: daemon and worker together stay below a hundred megabytes, however many files there are.

import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { byteStringFromText } from "../../src/bytes.ts";
import { connectService } from "../../src/dbus/client.ts";
import { At, libc, Open } from "../../src/ffi/libc.ts";
import { Arena } from "../../src/ffi/memory.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { privateBus, whyNoBus } from "../support/bus.ts";
import { startDaemon } from "../support/daemon.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { run, runChecked } from "../support/process.ts";
import { firstReason, testUnless, unlessRoot } from "../support/skip.ts";

const filesPerDirectory = 1000;
const directories = process.env.COPYD_TORTURE === undefined ? 60 : 1000;
const limitBytes = 100_000_000;

testUnless(
  firstReason(unlessRoot(), whyNoBus(), whyNoFilesystem("tmpfs")),
  `${directories * filesPerDirectory} files are copied by daemon and worker in less than 100 MB`,
  async () => {
    await using filesystem = await mountFilesystem("tmpfs", { sizeBytes: 8 * 1024 ** 3, mountOptions: ["nr_inodes=0"] });
    makeTree(`${filesystem.path}/source`);
    await using bus = await privateBus({ kind: "system" });
    // The binary, as it is installed: from the source, the compiler's memory would be measured too.
    const binary = `${bus.directory}/copyd`;
    await runChecked([process.execPath, join(import.meta.dir, "../../scripts/build.ts"), binary]);
    await using daemon = await startDaemon(bus, [], [binary, "daemon"]);
    const client = await connectService({ address: bus.address });
    const [source, destination] = [`${filesystem.path}/source`, `${filesystem.path}/copy`].map(byteStringFromText);
    const job = await client.submit(
      requestSchema.parse({ operation: "copy", sources: [source], destination, options: { durability: "none" } }),
    );
    const watch = await client.watch(job.token);
    let over = false;
    const ended = (async () => {
      for await (const event of watch) if (event.type === "ended") return event.job;
      return watch.job;
    })().finally(() => {
      over = true;
    });
    let most = { total: 0, daemon: 0, worker: 0 };
    while (!over) {
      const daemonBytes = memoryOf(daemon.pid);
      const workerBytes = childrenOf(daemon.pid).reduce((sum, pid) => sum + memoryOf(pid), 0);
      if (daemonBytes + workerBytes > most.total) most = { total: daemonBytes + workerBytes, daemon: daemonBytes, worker: workerBytes };
      await Bun.sleep(500);
    }
    const end = await ended;
    const seconds = (end.result?.elapsedUs ?? 0) / 1e6;
    client.close();
    console.log(
      `${end.filesDone} files in ${seconds.toFixed(1)} s; at most ${megabytes(most.total)} (daemon ${megabytes(most.daemon)}, worker ${megabytes(most.worker)})`,
    );
    expect([end.state, end.filesDone]).toEqual(["completed", directories * filesPerDirectory]);
    const count = await run(["sh", "-c", `find "$1" -type f -size 1c | wc -l`, "sh", `${filesystem.path}/copy`], { timeoutMs: 120_000 });
    expect(Number(count.stdout)).toBe(directories * filesPerDirectory);
    expect(most.total).toBeLessThan(limitBytes);
  },
  600_000,
);

/** Separate inodes of one byte each, by plain system calls: a million in seconds. */
function makeTree(path: string): void {
  using arena = new Arena(64 * 1024);
  const at = (name: string, action: (address: number) => number): number => {
    const mark = arena.mark();
    const result = action(arena.cstring(name));
    arena.reset(mark);
    if (result < 0) throw new Error(`${name}: errno ${-result}`);
    return result;
  };
  const byte = arena.cstring("x");
  const make = (parent: number, name: string): number => {
    at(name, (address) => libc.mkdirat(parent, address, 0o755));
    return at(name, (address) => libc.openat(parent, address, Open.O_RDONLY | Open.O_DIRECTORY, 0));
  };
  const top = make(At.AT_FDCWD, path);
  for (let directory = 0; directory < directories; directory++) {
    const fd = make(top, `directory-${directory}`);
    for (let file = 0; file < filesPerDirectory; file++) {
      const created = at(`file-${file}`, (address) => libc.openat(fd, address, Open.O_WRONLY | Open.O_CREAT, 0o644));
      libc.write(created, byte, 1);
      libc.close(created);
    }
    libc.close(fd);
  }
  libc.close(top);
}

/** Proportional set size: what a process has to itself, and its share of what it shares. 0 when it has ended. */
function memoryOf(pid: number): number {
  try {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
    return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
