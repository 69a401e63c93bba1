// Failures of a call as D-Bus errors: a name and one whole message. Never a stack trace, never a path of ours.

import { CopyError } from "../errors.ts";

export interface ErrorReply {
  readonly dbusName: string;
  readonly message: string;
}

/** Where what may not be told to the caller is told instead. */
export type ReportInternal = (error: unknown) => void;

/** The reply to whatever a handler threw. An unexpected error is reported to the journal and told to the caller as such only. */
export function errorReply(error: unknown, reportInternal: ReportInternal): ErrorReply {
  if (error instanceof CopyError) {
    // NUL would make the reply impossible to send; names from callers are quoted in messages.
    return { dbusName: error.failure.dbusName, message: error.message.replaceAll("\0", "?") };
  }
  reportInternal(error);
  return { dbusName: "org.freedesktop.DBus.Error.Failed", message: "internal error of copyd; the service's journal has the details" };
}
