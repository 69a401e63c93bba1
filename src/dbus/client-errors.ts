// What a client makes of D-Bus errors: the failure table's code again, by name.

import { CopyError, type FailureCode } from "../errors.ts";
import { BusError } from "./connection.ts";

const own = "org.copyd.Copyd1.Error.";
const bus = "org.freedesktop.DBus.Error.";

/** Several codes share a name on the bus: this is the one that a failed call means. */
const codes: Readonly<Record<string, FailureCode>> = {
  [`${own}JobExists`]: "job-exists",
  [`${own}NoSuchJob`]: "no-such-job",
  [`${own}InvalidState`]: "invalid-state",
  [`${own}BadPath`]: "bad-path",
  [`${own}UnknownOption`]: "unknown-option",
  [`${own}SameFile`]: "same-file",
  [`${own}SandboxedCaller`]: "sandboxed-caller",
  [`${own}NotAuthorized`]: "not-authorized",
  [`${own}ShuttingDown`]: "shutting-down",
  [`${own}PolicyViolation`]: "policy-denied",
  [`${own}BadConfig`]: "bad-config",
  [`${own}NoSpace`]: "no-space",
  [`${bus}AccessDenied`]: "access-denied",
  [`${bus}InvalidArgs`]: "invalid-arguments",
  [`${bus}UnknownObject`]: "unknown-object",
  [`${bus}UnknownInterface`]: "unknown-interface",
  [`${bus}UnknownMethod`]: "unknown-method",
  [`${bus}UnknownProperty`]: "unknown-property",
  [`${bus}PropertyReadOnly`]: "property-read-only",
  [`${bus}LimitsExceeded`]: "limits-exceeded",
  [`${bus}NotSupported`]: "not-supported",
  [`${bus}InteractiveAuthorizationRequired`]: "authorization-required",
  // No bus, no service, or none that could be started.
  [`${bus}NoServer`]: "no-service",
  [`${bus}ServiceUnknown`]: "no-service",
  [`${bus}NameHasNoOwner`]: "no-service",
  [`${bus}Disconnected`]: "no-service",
  [`${bus}TimedOut`]: "no-service",
  [`${bus}NoReply`]: "no-answer",
};

/** Of a job that the service may have taken, and that nobody tells of any more. */
export function fateUnknown(error: CopyError): CopyError {
  return new CopyError("no-answer", `the service does not answer any more: ${error.message}`, {}, error);
}

/** The CopyError that a failed call is. A service that cannot be started is `no-service`, whatever systemd calls it. */
export function clientError(error: unknown): CopyError {
  if (error instanceof CopyError) return error;
  if (!(error instanceof BusError)) {
    return new CopyError("internal", error instanceof Error ? error.message : String(error), {}, error);
  }
  const { dbusName, message } = error;
  const known = Object.hasOwn(codes, dbusName) ? codes[dbusName] : undefined;
  if (known !== undefined) return new CopyError(known, message, {}, error);
  const notStarted = dbusName.startsWith(`${bus}Spawn.`) || dbusName.startsWith("org.freedesktop.systemd1.");
  return new CopyError(notStarted ? "no-service" : "internal", message || dbusName, {}, error);
}
