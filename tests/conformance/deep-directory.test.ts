// In a working directory so deep that what lies in it has no path of its own, cp and mv do and say what GNU's do.

import { expect } from "bun:test";
import { mkdirSync } from "node:fs";
import { privateBus, whyNoBus } from "../support/bus.ts";
import { copydCommand, plainEnvironment } from "../support/cli.ts";
import { startDaemon } from "../support/daemon.ts";
import { havePrograms, run } from "../support/process.ts";
import { firstReason, testUnless, unlessRoot } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

/** The longest working directory that has a path: PATH_MAX less the NUL. One name more has none. */
const depthBytes = 4095;

const lines = [
  "cp file copy",
  "cp -r dir tree",
  "cp -a dir kept",
  "cp -v file dir",
  "cp -s file symbolic",
  "cp -l file hard",
  "cp -s file dir/inner",
  "cp --parents -v dir/sub/y kept",
  "cp -b file dir/x",
  "cp -a dir $OUTSIDE/dir",
  "cp nothing copy",
  "cp file file",
  "cp file nowhere/x",
  "cp ./file ../up",
  "mv copy renamed",
  "mv -v tree dir",
  "mv ../up .",
  "mv -v dir/sub $OUTSIDE",
  "mv -v $OUTSIDE/sub back",
  "mv nothing renamed",
];

/** Goes to the deepest directory, makes what the lines copy, runs them by the command given, and shows what there is then. */
const scriptOf = (commands: readonly string[]): string => `exec 2>&1
cd -P "$1"; limit=$2; OUTSIDE=$3; shift 3
long=$(printf 'd%.0s' {1..200})
while [ $((\${#PWD} + 202)) -le "$limit" ]; do mkdir $long && cd -P $long || exit 9; done
rest=$((limit - \${#PWD} - 1))
if [ $rest -gt 0 ]; then last=$(printf 'e%.0s' $(seq $rest)); mkdir $last && cd -P $last || exit 9; fi
[ \${#PWD} -eq "$limit" ] || exit 9
echo content >file; mkdir -p dir/sub; echo x >dir/x; echo y >dir/sub/y; ln dir/sub/y dir/sub/z; ln -s x dir/link
${commands.map((line) => `echo '== ${line}'; "$@" ${line}; echo "status $?"`).join("\n")}
find . "$OUTSIDE" -mindepth 1 -printf '%P %y %l %n %s\\n' | sort; readlink symbolic; cat dir/x renamed back/z 2>/dev/null
`;

async function outcome(
  prefix: readonly string[],
  commands = lines,
  env: Readonly<Record<string, string>> = plainEnvironment,
): Promise<string> {
  await using directory = await temporaryDirectory();
  await using outside = await temporaryDirectory("/dev/shm");
  mkdirSync(`${directory.path}/in`);
  const arguments_ = [`${directory.path}/in`, String(depthBytes), outside.path, ...prefix];
  const { stdout, stderr, status } = await run(["bash", "-c", scriptOf(commands), "bash", ...arguments_], { env, timeoutMs: 120_000 });
  expect([status === 9, stderr]).toEqual([false, ""]);
  return stdout.replaceAll(outside.path, "OUTSIDE");
}

const gnu = ["env", "--"];

testUnless(
  havePrograms("cp", "mv") ? null : "GNU cp is not installed",
  "cp and mv by themselves",
  async () => {
    const theirs = await outcome(gnu);
    expect(theirs).toContain("renamed 'tree' -> 'dir/tree'");
    expect(await outcome(copydCommand())).toBe(theirs);
  },
  120_000,
);

testUnless(
  firstReason(unlessRoot(), whyNoBus()),
  "where there is a service they do without it, or say that it cannot be done",
  async () => {
    await using bus = await privateBus({ kind: "system" });
    await using daemon = await startDaemon(bus);
    const env = { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: bus.address, DBUS_SESSION_BUS_ADDRESS: bus.address };
    const some = lines.slice(0, 3);
    expect(await outcome(copydCommand(), some, env)).toBe(await outcome(gnu, some));
    expect(await daemon.log()).not.toContain("job started");
    const asked = await outcome(copydCommand(), ["cp --session file other"], env);
    expect(asked).toContain("cp: the working directory lies too deep for the service, which needs whole paths: --local copies without it");
  },
  120_000,
);
