// The arguments of Copy, Move and their variants: counted, decoded, and frozen as one request before anything else happens.

import { type ByteString, byteString, isByteString } from "../bytes.ts";
import { CopyError } from "../errors.ts";
import type { AlsoTo } from "../jobs/api.ts";
import { memberRequests } from "../jobs/group.ts";
import type { JobRequest } from "../request.ts";
import { requestSchema } from "../request-schema.ts";
import { decodeCopyOptions } from "./options.ts";
import { pathFromBytes, pathFromUri } from "./paths.ts";
import { beyondFactor, type ServiceLimits } from "./service-limits.ts";
import { asVariantDict, type WireValue } from "./values.ts";

export interface CopyArguments {
  readonly token: string | null;
  readonly request: JobRequest;
  readonly alsoTo: readonly AlsoTo[];
  /** `request` and what it is with each of the further destinations. */
  readonly requests: readonly JobRequest[];
  /** Why this is more than one call may have; null where it is not. polkit may let the caller go beyond it. */
  readonly beyond: CopyError | null;
}

const maxFrozenNames = 256;

type Limits = Pick<ServiceLimits, "maxSources" | "maxArgumentBytes">;

/**
 * Decodes (aay, ay, a{sv}) or (as, s, a{sv}). Throws bad-path, unknown-option, bad-option, invalid-arguments, not-supported, and
 * limits-exceeded for what nobody may have.
 */
export function decodeCopyArguments(operation: JobRequest["operation"], args: readonly WireValue[], limits: Limits): CopyArguments {
  const [sources, destination, options] = args as readonly [readonly (Buffer | string)[], Buffer | string, WireValue];
  if (sources.length === 0) throw new CopyError("invalid-arguments", "there is no source");
  const { token, options: jobOptions, ...further } = decodeCopyOptions(asVariantDict(options));
  const typed = jobOptions.gnu.names?.sources.reduce((sum, name) => sum + name.length, 0) ?? 0;
  const others = [...further.alsoTo, ...further.namesAlsoTo].reduce((sum, path) => sum + path.length, 0);
  // Each job keeps the sources.
  const each = sources.reduce((sum, source) => sum + source.length, typed);
  const bytes = each * (1 + further.alsoTo.length) + destination.length + others;
  const most = { maxSources: limits.maxSources * beyondFactor, maxArgumentBytes: limits.maxArgumentBytes * beyondFactor };
  const tooMuch = excess(sources.length, bytes, most);
  if (tooMuch !== null) throw tooMuch;
  const parsed = requestSchema.safeParse({
    operation,
    sources: sources.map((source, index) => pathOf(source, sources.length === 1 ? "the source" : `source ${index + 1}`)),
    destination: pathOf(destination, "the destination"),
    options: jobOptions,
  });
  if (!parsed.success) throw new CopyError("invalid-arguments", parsed.error.issues[0]?.message ?? "the arguments do not fit together");
  const request = deepFrozen(parsed.data);
  const alsoTo = deepFrozen(alsoToOf(further.alsoTo, further.namesAlsoTo));
  return { token, request, alsoTo, requests: memberRequests(request, alsoTo), beyond: excess(sources.length, bytes, limits) };
}

function alsoToOf(destinations: readonly Buffer[], typed: readonly Buffer[]): AlsoTo[] {
  if (typed.length > 0 && typed.length !== destinations.length) {
    throw new CopyError("bad-option", "option 'names-also-to' must name each destination of 'also-to'");
  }
  return destinations.map((path, index) => {
    const name = typed[index];
    const destination = pathFromBytes(path, `destination ${index + 2}`);
    return name === undefined ? { destination } : { destination, typed: nameFrom(name) };
  });
}

/** As typed: relative, maybe. */
function nameFrom(bytes: Buffer): ByteString {
  const name = byteString(bytes.at(-1) === 0 ? bytes.subarray(0, -1) : bytes);
  if (isByteString(name)) return name;
  throw new CopyError("bad-option", "option 'names-also-to' contains a NUL byte");
}

function excess(sources: number, bytes: number, { maxSources, maxArgumentBytes }: Limits): CopyError | null {
  if (sources > maxSources) {
    return new CopyError("limits-exceeded", `${sources} sources are more than the ${maxSources} that one call may have`);
  }
  if (bytes <= maxArgumentBytes) return null;
  return new CopyError("limits-exceeded", `paths of ${bytes} bytes are more than the ${maxArgumentBytes} that one call may have`);
}

function pathOf(path: Buffer | string, what: string): ByteString {
  return typeof path === "string" ? pathFromUri(path, what) : pathFromBytes(path, what);
}

/** To freeze one of the largest lists of names takes as long as to decode it: such are read-only by their types alone. */
function deepFrozen<Value>(value: Value): Value {
  if (Array.isArray(value) && value.length > maxFrozenNames && typeof value[0] === "string") return value;
  if (typeof value === "object" && value !== null) {
    for (const inner of Object.values(value)) deepFrozen(inner);
    Object.freeze(value);
  }
  return value;
}
