// The reply of Preview: a dry run's totals and operations as the XML says them.

import { failures, isFailureCode } from "../errors.ts";
import type { Preview } from "../jobs/api.ts";
import type { PlannedOperation } from "../worker/protocol.ts";
import { text } from "./job-properties.ts";
import { pathBytes } from "./option-keys.ts";
import { Variant } from "./values.ts";

/** The two out arguments. */
export function encodePreview({ summary, expectedTimeUs }: Preview, operations: readonly PlannedOperation[]): unknown[] {
  const { counts, files, directories, bytes, conflicts, spaceNeeded, spaceFree, isWhole } = summary;
  const number = (value: number): Variant => new Variant("t", Math.min(Math.max(0, Math.round(value)), Number.MAX_SAFE_INTEGER));
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const told = new Map([
    ["operations", number(total)],
    ["listed", number(operations.length)],
    ["files", number(files)],
    ["directories", number(directories)],
    ["bytes", number(bytes)],
    ["conflicts", number(conflicts)],
    ["space-needed", number(spaceNeeded)],
    ["complete", new Variant("b", isWhole)],
  ]);
  for (const [action, count] of Object.entries(counts)) told.set(action, number(count));
  if (spaceFree >= 0) told.set("space-free", number(spaceFree));
  if (expectedTimeUs !== null) told.set("expected-time", number(expectedTimeUs));
  return [told, operations.map(encodeOperation)];
}

function encodeOperation({ action, object, source, destination, bytes, isHardLink, code, message }: PlannedOperation): unknown[] {
  const details = new Map<string, Variant>();
  if (isHardLink) details.set("hard-link", new Variant("b", true));
  if (code !== "") details.set("code", new Variant("s", text(code)));
  if (message !== "") details.set("message", new Variant("s", text(Buffer.from(message, "latin1").toString("utf8"))));
  if (isFailureCode(code)) details.set("advice", new Variant("s", failures[code].advice));
  return [action, object, pathBytes(source), pathBytes(destination), bytes, details];
}
