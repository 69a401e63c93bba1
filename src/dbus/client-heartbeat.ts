// Whether the bus still answers a client that waits: one that has stopped closes nothing, and a job that waits is silent for hours.

import { type BusConnection, driver } from "./connection.ts";

/** How often it is looked, milliseconds. */
const standardLookMs = 10_000;
/** So many looks in a row that nothing came between, the first of which asked the bus: it has had 20 s, as calls have. */
const maxQuietLooks = 3;

/**
 * Ends the connection where the bus does not answer. The bus is asked and not the service: a call to that waits for a person's password, or for
 * the calls of a flood. By looks and not by the clock, because time in which this process itself was stopped is nobody's silence.
 */
export function endWhenSilent(connection: BusConnection, lookMs = standardLookMs): void {
  let heardBytes = 0;
  let quietLooks = 0;
  const look = (): void => {
    quietLooks = connection.heardBytes === heardBytes ? quietLooks + 1 : 0;
    heardBytes = connection.heardBytes;
    // Any answer will do, and the end of the connection is told by itself.
    if (quietLooks === 1) void connection.callDriver("GetId", "", [], 0).catch(() => undefined);
    if (quietLooks >= maxQuietLooks) connection.abandon(`${driver.name} has not answered for ${((maxQuietLooks - 1) * lookMs) / 1000} s`);
  };
  const timer = setInterval(look, lookMs);
  timer.unref();
  void connection.closed.then(() => clearInterval(timer));
}
