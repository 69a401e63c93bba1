// On a terminal mv asks before it replaces what may not be written to, as GNU's does: the same words, tree and status.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chownSync, mkdirSync, rmSync } from "node:fs";
import { havePrograms, run } from "../../support/process.ts";
import { describeUnless, firstReason, unlessRoot } from "../../support/skip.ts";
import { asUser } from "../../support/users.ts";
import { addService, prepareBench, whyNoService } from "./bench.ts";
import type { Bench } from "./both.ts";

interface TerminalCase {
  readonly name: string;
  readonly setup: string;
  readonly run: string;
  readonly answers: string;
}

const protectedFile = "echo new >a; echo old >b; chmod 444 b";
const cases: readonly TerminalCase[] = [
  { name: "yes", setup: protectedFile, run: "mv a b", answers: "y\n" },
  { name: "no", setup: protectedFile, run: "mv a b", answers: "n\n" },
  { name: "with -f nothing is asked", setup: protectedFile, run: "mv -f a b", answers: "" },
  { name: "with -n nothing is asked", setup: protectedFile, run: "mv -n a b", answers: "" },
  { name: "a writable file", setup: "echo new >a; echo old >b", run: "mv a b", answers: "" },
  { name: "a link is always writable", setup: "echo new >a; ln -s nowhere b", run: "mv a b", answers: "" },
  { name: "with -u only where the file is older", setup: `${protectedFile}; touch -d 2001-01-01 b`, run: "mv -u a b", answers: "y\n" },
  { name: "with -u and a newer file", setup: `${protectedFile}; touch -d 2001-01-01 a`, run: "mv -u a b", answers: "" },
  { name: "with backups", setup: protectedFile, run: "mv -b a b", answers: "y\n" },
  { name: "odd modes", setup: "echo new >a; echo old >b; chmod 4555 b", run: "mv a b", answers: "y\n" },
  { name: "an empty directory", setup: "mkdir a b; chmod 555 b", run: "mv -T a b", answers: "y\n" },
  {
    name: "several",
    setup: "mkdir d; for i in a b; do echo 1 >$i; echo 2 >d/$i; chmod 400 d/$i; done",
    run: "mv a b d",
    answers: "n\ny\n",
  },
];

const lacking = firstReason(unlessRoot(), whyNoService(), havePrograms("script") ? null : "script (util-linux) is not installed");

describeUnless(lacking, "mv on a terminal", () => {
  const held: AsyncDisposable[] = [];
  let bench: Bench;
  let tree = "";
  beforeAll(async () => {
    ({ bench } = await addService(await prepareBench("mv", [], held), held));
    tree = `${bench.places.tmpfs}/tree`;
  }, 240_000);
  afterAll(async () => {
    for (const one of held) await one[Symbol.asyncDispose]();
  });

  /** What the terminal shows, the status, and the files with their contents. */
  async function outcomeOf({ setup, run: line, answers }: TerminalCase, command: string, bus: Record<string, string>): Promise<string> {
    rmSync(tree, { recursive: true, force: true });
    mkdirSync(tree);
    chownSync(tree, bench.user.uid, bench.user.gid);
    const shell = `mv() { ${command} "$@"; }; ${line}; echo "status $?"`;
    const script = `umask 022; ${setup}; script -qec "$1" /dev/null; head -v *; stat -c '%n %a %F' *`;
    const env = { PATH: "/usr/bin:/bin", LC_ALL: "C", HOME: "/", TERM: "dumb", SHELL: "/bin/sh", ...bus };
    const result = await run(asUser(bench.user, ["sh", "-c", script, "sh", shell]), { cwd: tree, env, input: answers });
    // When the terminal echoes an answer depends on who is faster.
    return `${result.stdout}${result.stderr}`.replace(/(^|\? )[yn]\r?\n/gm, "$1");
  }

  /** Since coreutils 9.2 a declined prompt ends in status 1. */
  const newest = (text: string, answers: string): string => (answers.includes("n") ? text.replace("status 0", "status 1") : text);

  for (const one of cases) {
    test(one.name, async () => {
      const gnu = newest(await outcomeOf(one, process.env.COPYD_TEST_MV ?? "command mv", {}), one.answers);
      expect(gnu.includes("overriding mode")).toBe(one.answers !== "");
      expect(await outcomeOf(one, `${bench.copyd} mv --local --progress=never`, {})).toBe(gnu);
      expect(await outcomeOf(one, `${bench.copyd} mv --progress=never`, { DBUS_SYSTEM_BUS_ADDRESS: `${bench.busAddress}` })).toBe(gnu);
    }, 60_000);
  }
});
