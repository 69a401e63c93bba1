// What is a terminal, and what only looks like one.

import { expect, test } from "bun:test";
import { openSync } from "node:fs";
import { join } from "node:path";
import { isTerminal } from "../../src/cli/is-terminal.ts";
import { havePrograms } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

test("devices, pipes, files and closed descriptors are none", async () => {
  await using here = await temporaryDirectory();
  for (const path of ["/dev/null", "/dev/zero", "/dev/urandom", "/", import.meta.path]) expect(isTerminal(openSync(path, "r"))).toBe(false);
  expect(isTerminal(openSync(join(here.path, "file"), "w"))).toBe(false);
  expect(isTerminal(9999)).toBe(false);
  const child = Bun.spawnSync([process.execPath, "-e", tellAll], { stdin: new Blob(["x"]), stdout: "pipe", stderr: "inherit" });
  expect(child.stdout.toString().trim()).toStartWith("false,false,");
});

const tellAll = `
  const { isTerminal } = await import(${JSON.stringify(join(import.meta.dir, "../../src/cli/is-terminal.ts"))});
  console.log(String([0, 1, 2].map(isTerminal)));
`;

testUnless(havePrograms("script") ? null : "script is not installed", "a terminal is one", () => {
  const command = `${process.execPath} -e '${tellAll}'`;
  const child = Bun.spawnSync(["script", "-qec", command, "/dev/null"], { stdin: "ignore", stdout: "pipe" });
  expect(child.stdout.toString().trim()).toBe("true,true,true");
});
