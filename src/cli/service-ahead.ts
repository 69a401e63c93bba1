// A connection to the system's service that is begun before the arguments are parsed, so that bus and service answer while the rest loads.

import { connectService, type ServiceClient } from "../dbus/client.ts";

let ahead: Promise<ServiceClient> | null = null;

/** Resolves when the bus has got what it is to answer; never rejects. */
export function connectAhead(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  ahead = connectService({ bus: "system", onGreeted: resolve });
  // Whoever needs the service will find out the reason, and tell it.
  ahead.catch(() => resolve());
  return promise;
}

/** The connection that was begun, which is the caller's from now on; null where there is none. */
export function takeConnection(): Promise<ServiceClient> | null {
  const taken = ahead;
  ahead = null;
  return taken;
}

/** Nobody will need it any more. */
export function dropConnection(): void {
  takeConnection()?.then(
    (client) => client.close(),
    () => undefined,
  );
}
