// What each test of a file gets anew.

import { afterEach, beforeEach } from "bun:test";
import { type TemporaryDirectory, temporaryDirectory } from "./temporary.ts";

/** A fresh directory for each test, removed after it; `path` is that of the running test. Called once, before other hooks. */
export function directoryOfEachTest(): { readonly path: string } {
  let directory: TemporaryDirectory | undefined;
  beforeEach(async () => {
    directory = await temporaryDirectory();
  });
  afterEach(async () => await directory?.[Symbol.asyncDispose]());
  return {
    get path(): string {
      if (directory === undefined) throw new Error("no test is running");
      return directory.path;
    },
  };
}
