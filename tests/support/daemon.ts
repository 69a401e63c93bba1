// `copyd daemon` as a process of its own on a private bus, from the source as it stands.

import { resolve } from "node:path";
import { BusError } from "../../src/dbus/connection.ts";
import { busName } from "../../src/dbus/contract.ts";
import type { PrivateBus } from "./bus.ts";
import { asUser, type Identity, whyNoPasswdUsers } from "./users.ts";

const repository = resolve(import.meta.dir, "../..");
export const daemonCommand: readonly string[] = [process.execPath, resolve(repository, "src/main.ts"), "daemon"];

/** What the daemon is told by its environment. */
export function daemonEnvironment(bus: PrivateBus): Record<string, string> {
  return {
    PATH: "/usr/bin:/bin",
    HOME: "/nonexistent",
    DBUS_SYSTEM_BUS_ADDRESS: bus.address,
    DBUS_SESSION_BUS_ADDRESS: bus.address,
    STATE_DIRECTORY: `${bus.directory}/state`,
    RUNTIME_DIRECTORY: `${bus.directory}/run`,
  };
}

export interface DaemonProcess extends AsyncDisposable {
  readonly pid: number;
  readonly exited: Promise<number>;
  kill(signal: NodeJS.Signals): void;
  /** What it has logged so far. */
  log(): Promise<string>;
}

/** Starts the daemon and resolves when it owns the name, or has ended without. `command`: another build of it. */
export async function startDaemon(bus: PrivateBus, args: readonly string[] = [], command = daemonCommand): Promise<DaemonProcess> {
  const logFile = `${bus.directory}/daemon-${performance.now()}.log`;
  const child = Bun.spawn([...command, ...args], {
    env: daemonEnvironment(bus),
    stdin: "ignore",
    stdout: "ignore",
    stderr: Bun.file(logFile),
  });
  const connection = await bus.connect();
  const deadline = Date.now() + 30_000;
  while (child.exitCode === null && (await ownerPid(connection)) !== child.pid) {
    if (Date.now() > deadline) throw new Error(`the daemon does not get its name:\n${await Bun.file(logFile).text()}`);
    await Bun.sleep(20);
  }
  connection.close();
  return {
    pid: child.pid,
    exited: child.exited,
    kill: (signal) => child.kill(signal),
    log: () => Bun.file(logFile).text(),
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null) child.kill("SIGTERM");
      await child.exited;
    },
  };
}

/** The process that owns copyd's name on a bus; 0 for none. */
export async function ownerPid(connection: Awaited<ReturnType<PrivateBus["connect"]>>): Promise<number> {
  try {
    const reply = await connection.callDriver("GetConnectionUnixProcessID", "s", [busName]);
    return Number(reply.body[0]);
  } catch (error) {
    if (error instanceof BusError) return 0;
    throw error;
  }
}

/** Why the service cannot run workers as other users from this checkout, or null. */
export function whyNoOtherWorkers(identity: Identity): string | null {
  const lacking = whyNoPasswdUsers();
  if (lacking !== null) return lacking;
  const readable = Bun.spawnSync(asUser(identity, ["test", "-r", daemonCommand[1] ?? "", "-a", "-x", process.execPath])).success;
  return readable ? null : "this checkout is not readable by other users";
}
