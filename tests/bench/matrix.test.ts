// The benchmarks' matrix and command line: the right commands in the right cells, the same workload every time.

import { expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { cells, parseRival, shownCommand, toolsOf } from "../../bench/cells.ts";
import { parseOptions, selectCells } from "../../bench/options.ts";
import { watchMemory } from "../../bench/process-memory.ts";
import { randomNumbers, workloads } from "../../bench/workloads.ts";
import { runChecked } from "../support/process.ts";
import { temporaryDirectory } from "../support/temporary.ts";

function commandsOf(id: string): Record<string, string> {
  const [cell] = selectCells([id]);
  if (cell === undefined) throw new Error(id);
  return Object.fromEntries(
    toolsOf(cell, { service: true, native: true, named: [], installed: false }).map((tool) => [tool.role, shownCommand(tool)]),
  );
}

test("the commands are those that a user types", () => {
  expect(commandsOf("ext4/small")).toEqual({
    baseline: "cp -a {src} {dst}",
    copyd: "copyd cp -a --local {src} {dst}",
    service: "copyd cp -a {src} {dst}",
    rival: "native 2 write {src} {dst}",
  });
  expect(commandsOf("btrfs/flat").rival).toBe("native 2 clone {src} {dst}");
  expect(commandsOf("ext4/usr").rival).toBeUndefined();
  expect(commandsOf("ext4/big").copyd).toBe("copyd cp -a --local {src} {dst}");
  expect(commandsOf("xfs/big").copyd).toBe("copyd cp -a --reflink=never --local {src} {dst}");
  expect(commandsOf("btrfs/durable").baseline).toBe("cp -a {src} {dst} && sync -f {dst}");
});

test("cells are chosen by name and by pattern, and a name that is none is refused", () => {
  expect(selectCells(["tmpfs/flat", "ext4/small"]).map(({ id }) => id)).toEqual(["tmpfs/flat", "ext4/small"]);
  expect(selectCells(["*/clone", "xfs/clone"]).map(({ id }) => id)).toEqual(["xfs/clone", "btrfs/clone"]);
  expect(() => selectCells(["ext4/nothing"])).toThrow("there is no cell ext4/nothing");
  expect(new Set(cells.map(({ id }) => id)).size).toBe(cells.length);
});

test("the command line: quick, runs, rivals, and clear words for nonsense", () => {
  const quick = parseOptions(["--quick"]);
  expect([quick.label, quick.installed, quick.deadlineSeconds]).toEqual(["quick", false, 150]);
  expect(parseOptions([]).runs).toBe(7);
  expect(() => parseOptions(["--runs", "0"])).toThrow("--runs takes a whole number");
  expect(parseOptions(["--rival", "cpz=cpz -r {src} {dst}"]).named).toEqual([
    { name: "cpz", role: "rival", steps: [{ kind: "run", command: ["cpz", "-r", "{src}", "{dst}"] }] },
  ]);
  expect(parseRival("tar=tar -C {src} -c . | tar -C {dst} -x").steps[0]).toEqual({
    kind: "run",
    command: ["sh", "-c", "tar -C {src} -c . | tar -C {dst} -x"],
  });
  expect(() => parseRival("cpz -r {src} {dst}")).toThrow("--rival takes 'NAME=COMMAND'");
});

test("a named rival runs beside the usual ones, without them, and where there are no others", () => {
  const named = ["--rival", "cpz=cpz -r {src} {dst}"];
  const rivalsOf = (...argv: readonly string[]): string[] => {
    const options = { ...parseOptions([...argv, "--only", "ext4/small"]), native: false };
    return options.cells.flatMap((cell) => toolsOf(cell, options).flatMap(({ role, name }) => (role === "rival" ? [name] : [])));
  };
  const usual = rivalsOf();
  expect(rivalsOf(...named)).toEqual(["cpz", ...usual]);
  expect(rivalsOf("--no-rivals", ...named)).toEqual(["cpz"]);
  expect(rivalsOf("--quick", ...named)).toEqual(["cpz"]);
  expect(rivalsOf("--no-rivals")).toEqual([]);
});

test("a workload is the same every time", async () => {
  await using directory = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
  const sums: string[] = [];
  for (const name of ["one", "two"]) {
    const path = join(directory.path, name);
    expect(await workloads.few.make(path)).toBeGreaterThan(25e6);
    const script = `cd "$1" && find . -type f | LC_ALL=C sort | xargs cat | md5sum; find . -type f -printf '%P %s\\n' | LC_ALL=C sort | md5sum`;
    sums.push((await runChecked(["sh", "-c", script, "sum", path])).stdout);
  }
  expect(sums[0]).toBe(sums[1]);
  expect(readdirSync(join(directory.path, "one")).length).toBe(5);
  const numbers = randomNumbers(1);
  expect([numbers(), numbers()].every((value) => value >= 0 && value < 1)).toBe(true);
});

test("the memory of a process with its children is watched", async () => {
  // The inner one says when it has the memory, and keeps it until it has been looked at.
  const program = `perl -e '$| = 1; my $kept = "x" x 40000000; print "here"; <STDIN>'; true`;
  const child = Bun.spawn(["sh", "-c", program], { stdin: "pipe", stdout: "pipe" });
  await child.stdout.getReader().read();
  const watch = watchMemory([child.pid]);
  const peak = await watch.stop();
  child.stdin.end();
  await child.exited;
  expect(peak.pssBytes).toBeGreaterThan(20e6);
  expect(peak.rssBytes).toBeGreaterThan(peak.pssBytes / 2);
});
