// Whose a job is, in names: of the machine's own users, of those that only a directory knows, and of nobody.

import { expect, test } from "bun:test";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { runChecked } from "../support/process.ts";
import { testUnless, unlessRoot } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const module = JSON.stringify(join(import.meta.dir, "../../src/cli/user-names.ts"));

/** What names `uids` have where `getent` is this script, and what it was asked for. */
async function namesWith(getent: string, uids: readonly number[]): Promise<{ readonly names: unknown; readonly asked: string }> {
  await using directory = await temporaryDirectory();
  const script = join(directory.path, "getent");
  await Bun.write(script, `#!/bin/sh\necho "$*" >>${directory.path}/asked\n${getent}\n`);
  chmodSync(script, 0o755);
  const ask = `const { userName } = await import(${module}); console.log(JSON.stringify(${JSON.stringify(uids)}.map((uid) => userName(uid))));`;
  const within = 'mount --bind "$1" /usr/bin/getent; exec "$2" -e "$3"';
  const { stdout } = await runChecked(["unshare", "-m", "sh", "-ec", within, "sh", script, process.execPath, ask]);
  return { names: JSON.parse(stdout), asked: await Bun.file(join(directory.path, "asked")).text() };
}

test("root is root, and a number that nobody has stays one", async () => {
  const { userName } = await import("../../src/cli/user-names.ts");
  expect([userName(0), userName(4_000_000_123)]).toEqual(["root", "4000000123"]);
});

testUnless(unlessRoot(), "a user of a directory service is shown by name; each is asked for once, and root never", async () => {
  const directory = 'if [ "$3" = 70001 ]; then echo "dora:x:70001:70001::/:/bin/sh"; else exit 2; fi';
  expect(await namesWith(directory, [70001, 70002, 0, 70001, 70002])).toEqual({
    names: ["dora", "70002", "root", "dora", "70002"],
    asked: "passwd -- 70001\npasswd -- 70002\n",
  });
});

testUnless(unlessRoot(), "a directory that hangs is waited for once", async () => {
  const numbers = [70001, 70002, 70003];
  expect(await namesWith("exec sleep 30", numbers)).toEqual({ names: numbers.map(String), asked: "passwd -- 70001\n" });
});
