// Random trees and random cp and mv command lines from a seed: the same seed gives the same case, on any machine.

import { Random } from "../../support/random.ts";
import type { Program } from "./both.ts";
import type { Case } from "./case.ts";
import { ages, treeOf } from "./random-tree.ts";

/** The case of a seed: two trees whose names overlap, and one command from the first into the second. `isNew`: for coreutils 9.5 and later. */
export function randomCase(program: Program, seed: number, isNew: boolean): Case {
  const random = new Random(seed);
  return program === "cp" ? randomCp(random, seed, isNew) : randomMv(random, seed, isNew);
}

function randomCp(random: Random, seed: number, isNew: boolean): Case {
  // With -v both go through the tree in one order, so that the same name of several is the first.
  const options = `-v ${cpOptions(random, isNew).join(" ")}`;
  // coreutils' -u replaces newer files by hard links; ours does not.
  const hardLinks = !/-[a-z]*u/.test(options);
  // Of a directory and something else under one name, releases of coreutils back up now this and now that.
  const directories = !/ (-b|--backup|-S)/.test(options);
  const cycles = !options.includes("L");
  const replaces = /remove-destination|-[a-z]*n\b|-b|--backup|-S/.test(options);
  const setup = [
    "mkdir s t",
    ...treeOf(random, "s", { hardLinks, directories, cycles, fifos: true, oddities: true }),
    // Since 9.6 or so coreutils leaves an old file its ACL where the new one has none.
    ...treeOf(random, "t", { hardLinks, directories, cycles, fifos: replaces, oddities: false }),
    ...ages(random),
  ];
  // coreutils refuses to copy a directory again that it met behind an argument's link.
  const several = /-rH/.test(options) ? [] : [`cp ${options} s/* t`, `cp ${options} -t t s/a s/b`, `cd s; cp ${options} -- * ../t`];
  const run = random.pick([
    ...[...several, `cp ${options} s t`, `cp ${options} -T s t`, `cp ${options} s/ t/`, `cp ${options} s u`, `cp ${options} s/a t/b`],
    // coreutils cannot make "t/s/." with --parents.
    ...(options.includes("--parents") ? [] : [`cp ${options} s/. t`]),
  ]);
  return { name: `cp seed ${seed}`, setup: setup.join("\n"), run, ...answers(random), ordered: true, xattrs: true };
}

function cpOptions(random: Random, isNew: boolean): string[] {
  const options = [random.pick(["-r", "-r", "-a", "-rL", "-rP", "-rH", "-rp", "-rd", "-al", "-rl", "-rlP"])];
  const replacing = ["", "", "-f", "--remove-destination", "-n", "-b", "--backup=numbered", "-S .old"];
  // What links lead to counts as hard-linked with -L, and -u is another matter then: see hardLinks.
  if (!/[Ll]/.test(options[0] ?? "")) replacing.push("-u", "-fu", "-bu");
  if (isNew) replacing.push("-i", "-iu", "--update=none", "--update=none-fail", "--update=all", "-i --remove-destination");
  options.push(random.pick(replacing));
  if (random.chance(15)) {
    options.push(random.pick(["--no-preserve=links", "--preserve=links", "--preserve=timestamps", "--no-preserve=timestamps"]));
  }
  if (random.chance(10)) options.push(random.pick(["--preserve=mode", "--no-preserve=mode", "--preserve=all", "--preserve=xattr"]));
  if (random.chance(10)) options.push("--attributes-only");
  if (random.chance(10)) options.push("--parents");
  if (random.chance(10)) options.push("-x");
  if (random.chance(10)) options.push(random.pick(["--sparse=always", "--sparse=never", "--reflink=auto", "--reflink=never"]));
  return options.filter((option) => option !== "");
}

function randomMv(random: Random, seed: number, isNew: boolean): Case {
  const options = mvOptions(random, isNew).join(" ");
  const across = random.pick([[], [], ["t"], ["t"], ["s"], ["s", "t"]]);
  const backsUp = /-[a-z]*b|-S/.test(options);
  // Where a name is taken coreutils makes a link to the first copy and removes the source, within one filesystem too, and says so;
  // and what it skipped or moved aside counts as a first copy.
  const hardLinks = !backsUp && !/-[a-z]*[uni]|--update/.test(options) && (across.length > 0 || !options.includes("-v"));
  const trees = { cycles: true, directories: true, fifos: true };
  // Where it fails coreutils leaves the backup that it made, and it asks before it removes what copyd removes at the end.
  const oddities = !backsUp && !(across.length > 0 && options.includes("-i"));
  const setup = [
    "mkdir -p s t",
    ...treeOf(random, "s", { ...trees, hardLinks, oddities }),
    ...treeOf(random, "t", { ...trees, hardLinks, oddities }),
    ...ages(random),
  ];
  const within = [`mv ${options} s/a s/a t`, `mv ${options} s/* t/* t`];
  // A filesystem's own directory can be emptied but not removed.
  const whole = [`mv ${options} s t`, `mv ${options} -T s t/a`, `mv ${options} s u`];
  const run = random.pick([
    ...[`mv ${options} s/* t`, `mv ${options} s/* t`, `mv ${options} -t t s/a s/b s/.h`, `cd t; mv ${options} ../s/* .`],
    ...[`mv ${options} s/a t/b`, `mv ${options} -T s/a t/b`, `cd s; mv ${options} -- * ../t`],
    ...(across.includes("s") ? [] : whole),
    ...(across.length === 0 && !backsUp ? within : []),
  ]);
  // Across filesystems copyd removes the sources when all is copied and flushed, coreutils those of one argument after the other.
  const ordered = across.length === 0;
  return { name: `mv seed ${seed}`, setup: setup.join("\n"), run, mounts: across, ...answers(random), ordered, xattrs: true };
}

function mvOptions(random: Random, isNew: boolean): string[] {
  const options = [random.pick(["-v", "-v", "-v", ""])];
  const replacing = ["", "", "-f", "-n", "-u", "-b", "--backup=numbered", "--backup=existing", "-fu", "-bu", "-S .old", "-bf"];
  if (isNew) replacing.push("-i", "-iu", "-ib", "--update=none", "--update=none-fail", "--exchange", "--no-copy", "-un", "-in");
  const over = random.pick(replacing);
  options.push(over);
  // coreutils 9.10 forgets the backup that it made when it then does not copy.
  if (isNew && !/-.*b|-S/.test(over) && random.chance(8)) options.push("--no-copy");
  if (random.chance(8)) options.push("--strip-trailing-slashes");
  return options.filter((option) => option !== "");
}

function answers(random: Random): { readonly stdin: string } {
  return { stdin: Array.from({ length: random.below(8) }, () => random.pick(["y", "n", "yes", "", "Y"])).join("\n") };
}
