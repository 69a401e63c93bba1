// The binary under test as a service: `copyd daemon` on a private bus of the system kind, as installed but for its place.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { connectService } from "../src/dbus/client.ts";
import { privateBus } from "../tests/support/bus.ts";
import { descendants, statFields } from "./process-memory.ts";

export interface BenchService extends AsyncDisposable {
  readonly address: string;
  /** The daemon; its workers come and go below it. */
  pids(): readonly number[];
  /** Of the daemon and the workers that have ended. */
  cpuSeconds(): { readonly user: number; readonly system: number };
  /** Resolves when no worker is left: their time is in the daemon's account then. */
  workersEnded(): Promise<void>;
  /** Whether a job to this destination is known to the service and completed: copyd cp may have done it without the service. */
  completed(destination: string): Promise<boolean>;
}

const startTimeoutMs = 15_000;
const ticksPerSecond = 100;

export async function startBenchService(copyd: string): Promise<BenchService> {
  const bus = await privateBus({ kind: "system" });
  const state = join(bus.directory, "state");
  const runtime = join(bus.directory, "runtime");
  await mkdir(state, { mode: 0o700 });
  await mkdir(runtime);
  const daemon = Bun.spawn([copyd, "daemon", "--set", "service.idle-exit-seconds=0"], {
    cwd: "/",
    stdin: "ignore",
    stdout: "ignore",
    stderr: Bun.file(join(bus.directory, "daemon.log")),
    env: {
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
      DBUS_SYSTEM_BUS_ADDRESS: bus.address,
      STATE_DIRECTORY: state,
      RUNTIME_DIRECTORY: runtime,
    },
  });
  const end = async (): Promise<void> => {
    daemon.kill("SIGTERM");
    const timer = setTimeout(() => daemon.kill("SIGKILL"), 12_000);
    await daemon.exited;
    clearTimeout(timer);
    await bus[Symbol.asyncDispose]();
  };
  const deadline = performance.now() + startTimeoutMs;
  for (;;) {
    try {
      (await connectService({ address: bus.address })).close();
      break;
    } catch (error) {
      if (daemon.exitCode === null && performance.now() < deadline) {
        await Bun.sleep(50);
        continue;
      }
      const log = await Bun.file(join(bus.directory, "daemon.log")).text();
      await end();
      throw new Error(`copyd daemon did not serve: ${log.slice(-2000)}`, { cause: error });
    }
  }
  return {
    address: bus.address,
    pids: () => [daemon.pid],
    cpuSeconds() {
      const [user = 0, system = 0, childrenUser = 0, childrenSystem = 0] = statFields(daemon.pid).slice(11, 15).map(Number);
      return { user: (user + childrenUser) / ticksPerSecond, system: (system + childrenSystem) / ticksPerSecond };
    },
    async workersEnded() {
      const latest = performance.now() + 5000;
      while (descendants([daemon.pid]).length > 1 && performance.now() < latest) await Bun.sleep(10);
    },
    async completed(destination) {
      using client = await connectService({ address: bus.address });
      return (await client.list()).some((job) => job.request.destination === destination && job.state === "completed");
    },
    [Symbol.asyncDispose]: end,
  };
}
