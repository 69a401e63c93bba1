// What a service that ends as calls come in still owes to its callers, left in the state directory for the next one to keep.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { BusConnection } from "../dbus/connection.ts";
import { busName } from "../dbus/contract.ts";
import type { Promises } from "../dbus/service.ts";
import { log } from "../log.ts";

const fileName = "handover.json";
/** The next service is started at once: anything older is of another time, perhaps of another bus. */
const maxAgeMs = 60_000;
const none: Promises = { subscriptions: [] };

const uid = z.number().int().min(0);
const schema = z.object({
  writtenMs: z.number(),
  subscriptions: z.array(
    z
      .object({
        sender: z.string(),
        uid,
        owner: uid.optional(),
        token: z.string().nullable(),
        lines: z.boolean(),
        errors: z.boolean().default(false),
      })
      .transform(({ owner, ...entry }) => ({ ...entry, owner: owner ?? entry.uid })),
  ),
});

/** Throws the errors of writing a file. */
export function leaveHandover(stateDirectory: string, promises: Promises): void {
  writeFileSync(join(stateDirectory, fileName), JSON.stringify({ writtenMs: Date.now(), ...promises }), { mode: 0o600 });
}

/** Takes what was left, once. */
export function takeHandover(stateDirectory: string): Promises {
  const path = join(stateDirectory, fileName);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT")
      log.warning("what a former service left cannot be read", { reason: String(cause) });
    return none;
  }
  rmSync(path, { force: true });
  try {
    const { writtenMs, ...promises } = schema.parse(JSON.parse(text));
    return Math.abs(Date.now() - writtenMs) < maxAgeMs ? promises : none;
  } catch (cause) {
    log.warning("what a former service left makes no sense", { reason: String(cause) });
    return none;
  }
}

/** Has the bus start the next service, which waits for this one's end. */
export async function callSuccessor(connection: BusConnection): Promise<void> {
  // Its answer comes when we are gone. The bus reads in order: once it has answered something later, it has acted on this.
  void connection.callDriver("StartServiceByName", "su", [busName, 0]).catch(() => undefined);
  await connection.callDriver("GetId", "", [], 2_000).catch(() => undefined);
}
