// The arguments as bytes: Bun decodes them as UTF-8 and loses what is not, so those are read back from the kernel.

import { readFileSync } from "node:fs";
import { type ByteString, byteString, byteStringFromText, toBytes } from "../bytes.ts";

/**
 * The bytes behind decoded arguments. Only when one of them holds U+FFFD, the mark of a lossy decoding, is the process's own
 * command line read; its last arguments are these, so they are matched from the end.
 */
export function rawArguments(arguments_: readonly string[], readCommandLine: () => Uint8Array = ownCommandLine): ByteString[] {
  if (!arguments_.some((argument) => argument.includes("\ufffd"))) return arguments_.map(byteStringFromText);
  const kernel = byteString(readCommandLine()).split("\0").slice(0, -1) as ByteString[];
  const offset = kernel.length - arguments_.length;
  return arguments_.map((argument, index) => {
    const raw = kernel[offset + index];
    return raw !== undefined && toBytes(raw).toString("utf8") === argument ? raw : byteStringFromText(argument);
  });
}

function ownCommandLine(): Uint8Array {
  return readFileSync("/proc/self/cmdline");
}
