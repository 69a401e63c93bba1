// A connection to the system's service that is begun before the arguments are parsed, so that bus and service answer while the rest loads.

import { type ClientOptions, connectService, type ServiceClient } from "../dbus/client.ts";

/** A connection that is being made. */
export interface Connecting {
  readonly client: Promise<ServiceClient>;
  /** Lets go of it, whether it is there or never will be: a bus that is silent must not hold up the end of the process. */
  readonly drop: () => void;
}

let ahead: Connecting | null = null;

export function beginConnection(options: ClientOptions): Connecting {
  const controller = new AbortController();
  const client = connectService({ ...options, signal: controller.signal });
  const drop = (): void => {
    controller.abort();
    client.then(
      (connected) => connected.close(),
      () => undefined,
    );
  };
  return { client, drop };
}

/** Resolves when the bus has got what it is to answer; never rejects. */
export function connectAhead(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  ahead = beginConnection({ bus: "system", onGreeted: resolve });
  // Whoever needs the service will find out the reason, and tell it.
  ahead.client.catch(() => resolve());
  return promise;
}

/** The connection that was begun, which is the caller's from now on; null where there is none. */
export function takeConnection(): Connecting | null {
  const taken = ahead;
  ahead = null;
  return taken;
}

/** Nobody will need it any more. */
export function dropConnection(): void {
  takeConnection()?.drop();
}
