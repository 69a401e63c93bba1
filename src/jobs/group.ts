// A fan-out: jobs that copy the same sources, each to a destination of its own, side by side, so that one reading serves them all. Pure.

import type { ByteString } from "../bytes.ts";
import { CopyError } from "../errors.ts";
import type { JobRequest } from "../request.ts";
import { type AlsoTo, maxDestinations, memberToken } from "./api.ts";

export interface JobGroup {
  /** The first job's. */
  readonly token: string;
  /** All of them, in the order asked for: the first job's first. */
  readonly destinations: readonly ByteString[];
}

/** A token and what is put behind it are a token. */
const maxGroupTokenLength = 46;

export function memberTokens({ token, destinations }: JobGroup): string[] {
  return destinations.map((_, index) => memberToken(token, index));
}

/** One request for each destination. Throws invalid-arguments, bad-option or not-supported for what cannot be copied so. */
export function memberRequests(request: JobRequest, alsoTo: readonly AlsoTo[]): readonly JobRequest[] {
  if (alsoTo.length === 0) return [request];
  requirePossible(request);
  const destinations = [request.destination, ...alsoTo.map(({ destination }) => destination)];
  if (destinations.length > maxDestinations) {
    throw new CopyError("invalid-arguments", `${destinations.length} destinations are more than the ${maxDestinations} of one reading`);
  }
  const places = new Set(destinations.map((path) => path.split("/").filter(isName).join("/")));
  if (places.size < destinations.length) throw new CopyError("invalid-arguments", "two of the destinations are the same");
  return [request, ...alsoTo.map((one) => memberRequest(request, one))];
}

/** Throws invalid-arguments for a token that leaves no room for the members' numbers. */
export function requireGroupToken(token: string): void {
  if (token.length <= maxGroupTokenLength) return;
  throw new CopyError("invalid-arguments", `the token of a job with several destinations has at most ${maxGroupTokenLength} characters`);
}

function requirePossible({ operation, options }: JobRequest): void {
  if (operation === "move") {
    throw new CopyError("not-supported", "a move has one destination: its source may go only when every copy of it is there");
  }
  const { manifest, cache } = options;
  if (manifest !== "") throw new CopyError("bad-option", "a manifest is of one destination, and cannot be made with several");
  if (cache === "drop")
    throw new CopyError("bad-option", "several destinations share one reading through the page cache: it cannot be dropped");
}

function memberRequest(request: JobRequest, { destination, typed }: AlsoTo): JobRequest {
  const { gnu } = request.options;
  const names = gnu.names === null ? null : { ...gnu.names, destination: typed ?? destination };
  return { ...request, destination, options: { ...request.options, gnu: { ...gnu, names } } };
}

function isName(name: string): boolean {
  return name !== "" && name !== ".";
}
