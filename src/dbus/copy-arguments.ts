// The arguments of Copy, Move and their variants: counted, decoded, and frozen as one request before anything else happens.

import type { ByteString } from "../bytes.ts";
import { CopyError } from "../errors.ts";
import type { JobRequest } from "../request.ts";
import { requestSchema } from "../request-schema.ts";
import { decodeCopyOptions } from "./options.ts";
import { pathFromBytes, pathFromUri } from "./paths.ts";
import type { ServiceLimits } from "./service-limits.ts";
import { asVariantDict, type WireValue } from "./values.ts";

export interface CopyArguments {
  readonly token: string | null;
  readonly request: JobRequest;
}

type Limits = Pick<ServiceLimits, "maxSources" | "maxArgumentBytes">;

/** Decodes (aay, ay, a{sv}) or (as, s, a{sv}). Throws bad-path, unknown-option, bad-option, invalid-arguments, limits-exceeded. */
export function decodeCopyArguments(operation: JobRequest["operation"], args: readonly WireValue[], limits: Limits): CopyArguments {
  const [sources, destination, options] = args as readonly [readonly (Buffer | string)[], Buffer | string, WireValue];
  if (sources.length === 0) throw new CopyError("invalid-arguments", "there is no source");
  if (sources.length > limits.maxSources) {
    throw new CopyError("limits-exceeded", `${sources.length} sources are more than the ${limits.maxSources} that one call may have`);
  }
  const bytes = sources.reduce((sum, source) => sum + source.length, destination.length);
  const { token, options: jobOptions } = decodeCopyOptions(asVariantDict(options));
  const typed = jobOptions.gnu.names?.sources.reduce((sum, name) => sum + name.length, 0) ?? 0;
  if (bytes + typed > limits.maxArgumentBytes) {
    throw new CopyError(
      "limits-exceeded",
      `paths of ${bytes + typed} bytes are more than the ${limits.maxArgumentBytes} that one call may have`,
    );
  }
  const parsed = requestSchema.safeParse({
    operation,
    sources: sources.map((source, index) => pathOf(source, sources.length === 1 ? "the source" : `source ${index + 1}`)),
    destination: pathOf(destination, "the destination"),
    options: jobOptions,
  });
  if (!parsed.success) throw new CopyError("invalid-arguments", parsed.error.issues[0]?.message ?? "the arguments do not fit together");
  return { token, request: deepFrozen(parsed.data) };
}

function pathOf(path: Buffer | string, what: string): ByteString {
  return typeof path === "string" ? pathFromUri(path, what) : pathFromBytes(path, what);
}

function deepFrozen<Value>(value: Value): Value {
  if (typeof value === "object" && value !== null) {
    for (const inner of Object.values(value)) deepFrozen(inner);
    Object.freeze(value);
  }
  return value;
}
