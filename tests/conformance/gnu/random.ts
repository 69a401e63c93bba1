// Random trees and random cp command lines from a seed: the same seed gives the same case, on any machine.

import type { Case } from "./case.ts";

/** mulberry32: small, and good enough to choose file names with. */
class Choices {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  below(limit: number): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  }

  of<Value>(values: readonly Value[]): Value {
    return values[this.below(values.length)] as Value;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
}

const names = ["a", "b", "c", "d e", "it's"] as const;

/** The case of a seed: two trees whose names overlap, and one cp from the first into the second. */
export function randomCase(seed: number): Case {
  const choices = new Choices(seed);
  // With -v both go through the tree in one order, so that the same name of several is the first.
  const options = `-v ${optionsOf(choices).join(" ")}`;
  // coreutils' -u replaces newer files by hard links; ours does not.
  const hardLinks = !/-[a-z]*u/.test(options);
  const setup = ["mkdir s t", ...treeOf(choices, "s", hardLinks), ...treeOf(choices, "t", hardLinks), ...ages(choices)];
  const operands = choices.of(["s t", "-T s t", "s/* t", "s/ t/", "s u", "s/a t/b", "-t t s/a s/b"].concat(parentless(options)));
  return { name: `seed ${seed}`, setup: setup.join("\n"), run: `cp ${options} ${operands}`, ordered: true };
}

/** coreutils cannot make "t/s/." with --parents. */
function parentless(options: string): string[] {
  return options.includes("--parents") ? [] : ["s/. t"];
}

function treeOf(choices: Choices, top: string, hardLinks: boolean): string[] {
  const lines: string[] = [];
  const directories = [top];
  const files: string[] = [];
  const taken = new Set<string>();
  const count = 3 + choices.below(12);
  for (let entry = 0; entry < count; entry++) {
    const directory = choices.of(directories);
    const path = `${directory}/${choices.of(names)}`;
    if (taken.has(path)) continue;
    taken.add(path);
    const kind = choices.below(10);
    if (kind < 3 && directory.split("/").length < 4) {
      directories.push(path);
      lines.push(`mkdir ${quoted(path)}`);
      if (choices.chance(20)) lines.push(`chmod ${choices.of(["700", "750", "1777"])} ${quoted(path)}`);
    } else if (kind < 4) lines.push(`ln -s ${quoted(choices.of([...names, "nowhere", "../a"]))} ${quoted(path)}`);
    else if (kind < 5 && hardLinks && files.length > 0) lines.push(`ln ${quoted(choices.of(files))} ${quoted(path)}`);
    else if (kind < 6 && choices.chance(40)) lines.push(`mkfifo ${quoted(path)}`);
    else {
      files.push(path);
      lines.push(`echo ${top}${entry} >${quoted(path)}`);
      if (choices.chance(30)) lines.push(`chmod ${choices.of(["600", "755", "444", "640"])} ${quoted(path)}`);
      if (choices.chance(10)) lines.push(`truncate -s ${choices.below(200_000)} ${quoted(path)}`);
    }
  }
  return lines;
}

/** Some files older, some newer than what the harness makes the others. */
function ages(choices: Choices): string[] {
  const lines: string[] = [];
  for (const top of ["s", "t"]) {
    for (const name of names) {
      if (choices.chance(40))
        lines.push(`touch -hd ${choices.of(["1999-01-01", "2003-02-02"])} ${quoted(`${top}/${name}`)} 2>/dev/null; true`);
    }
  }
  // touch makes what is missing: -c would not, but knows no -h.
  return lines.map((line) => line.replace("touch -hd", "touch -chd"));
}

function optionsOf(choices: Choices): string[] {
  const options = [choices.of(["-r", "-r", "-a", "-rL", "-rP", "-rH", "-rp", "-rd", "-al", "-rl", "-rlP"])];
  const overwriting = choices.of(["", "", "-f", "--remove-destination", "-n", "-u", "-b", "--backup=numbered", "-fu", "-bu", "-S .old"]);
  if (overwriting !== "") options.push(overwriting);
  if (choices.chance(15))
    options.push(choices.of(["--no-preserve=links", "--preserve=links", "--preserve=timestamps", "--no-preserve=timestamps"]));
  if (choices.chance(10)) options.push("--attributes-only");
  if (choices.chance(10)) options.push("--parents");
  if (choices.chance(10)) options.push("-x");
  return options;
}

function quoted(path: string): string {
  return `'${path.replaceAll("'", "'\\''")}'`;
}
