// systemd's watchdog: says every so often that the service's event loop turns. One that hangs is killed and started again.

import { log } from "../log.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** sd_watchdog_enabled(3) asks for half of the interval at most; a third leaves room for a busy machine. */
const pingsPerInterval = 3;

/**
 * Pings until disposed, where systemd asked this process for it (NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID as in
 * sd_notify(3)); otherwise does nothing and loads nothing.
 */
export async function startWatchdog(environment: Environment): Promise<Disposable> {
  const intervalMs = watchdogIntervalMs(environment);
  const path = environment.NOTIFY_SOCKET;
  if (intervalMs === null || path === undefined) return { [Symbol.dispose]: () => undefined };
  const { unixDatagrams } = await import("../ffi/unix-datagram.ts");
  const socket = unixDatagrams(path);
  const ping = (): boolean => socket?.send("WATCHDOG=1") ?? false;
  if (!ping()) log.warning("systemd's watchdog cannot be told that the service lives", { socket: path });
  const timer = setInterval(ping, intervalMs / pingsPerInterval);
  return {
    [Symbol.dispose]() {
      clearInterval(timer);
      socket?.[Symbol.dispose]();
    },
  };
}

/** Milliseconds between two pings at the most; null where nobody listens for them, or not for this process's. */
export function watchdogIntervalMs({ WATCHDOG_USEC: interval, WATCHDOG_PID: pid }: Environment, ownPid = process.pid): number | null {
  if (interval === undefined || !/^[1-9]\d{0,15}$/.test(interval)) return null;
  if (pid !== undefined && pid !== String(ownPid)) return null;
  return Number(interval) / 1000;
}
