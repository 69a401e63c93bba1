// The set-up of random trees, with the names and kinds of files that real trees have: shell lines from a seed's choices.

import type { Random } from "../../support/random.ts";

/** Latin-1 characters stand for bytes. */
export const names = ["a", "b", "c", "d e", "it's", "-f", "n\nl", "x\xff\xfe", ".h"] as const;

export interface TreeChoices {
  /** Second names of files already made, in this tree or in those made before with the same list. */
  readonly hardLinks: boolean;
  /** A cp that writes into a FIFO waits for a reader, for ever. */
  readonly fifos: boolean;
  /** Where there are none, the two trees have no name for a directory and for something else. */
  readonly directories: boolean;
  /** Links from a directory to itself. */
  readonly cycles: boolean;
  /** ACLs, other extended attributes, read-only directories. */
  readonly oddities: boolean;
}

/** Lines that fill an existing directory. */
export function treeOf(random: Random, top: string, choices: TreeChoices): string[] {
  const lines: string[] = [];
  /** What must come when everything is in its directory. */
  const last: string[] = [];
  const directories = [top];
  const files: string[] = [];
  const taken = new Set<string>();
  const count = 3 + random.below(12);
  for (let entry = 0; entry < count; entry++) {
    const directory = random.pick(directories);
    const path = `${directory}/${random.pick(names)}`;
    if (taken.has(path)) continue;
    taken.add(path);
    const kind = random.below(10);
    if (kind < 3 && choices.directories && directory.split("/").length < 4) {
      directories.push(path);
      lines.push(`mkdir ${quoted(path)}`, ...directoryLines(random, path, choices));
      if (choices.oddities && random.chance(8)) last.unshift(`chmod ${random.pick(["555", "500"])} ${quoted(path)}`);
    } else if (kind < 4) {
      lines.push(
        `ln -s -- ${quoted(random.pick([...names, "nowhere", "../a", "../../s/a", ...(choices.cycles ? ["."] : [])]))} ${quoted(path)}`,
      );
    } else if (kind < 5 && choices.hardLinks && files.length > 0) lines.push(`ln ${quoted(random.pick(files))} ${quoted(path)}`);
    else if (kind < 6 && choices.fifos && random.chance(40)) lines.push(`mkfifo ${quoted(path)}`);
    else {
      files.push(path);
      lines.push(`echo ${top}${entry} >${quoted(path)}`, ...fileLines(random, path, choices));
    }
  }
  return [...lines, ...last];
}

function directoryLines(random: Random, path: string, { oddities }: TreeChoices): string[] {
  const lines: string[] = [];
  if (random.chance(20)) lines.push(`chmod ${random.pick(["700", "750", "1777", "2775"])} ${quoted(path)}`);
  if (oddities && random.chance(8)) lines.push(`setfacl -m d:u:1000:rwx,d:g:1001:rx ${quoted(path)}`);
  return lines;
}

function fileLines(random: Random, path: string, { oddities }: TreeChoices): string[] {
  const lines: string[] = [];
  if (random.chance(30)) lines.push(`chmod ${random.pick(["600", "755", "444", "640", "4755", "2755"])} ${quoted(path)}`);
  if (random.chance(10)) lines.push(`truncate -s ${random.below(200_000)} ${quoted(path)}`);
  if (oddities && random.chance(8)) lines.push(`setfacl -m u:1000:rw ${quoted(path)}`);
  if (oddities && random.chance(8)) lines.push(`setfattr -n user.odd -v value ${quoted(path)}`);
  return lines;
}

/** Some files older, some newer than what the harness makes the others. */
export function ages(random: Random): string[] {
  const lines: string[] = [];
  for (const top of ["s", "t"]) {
    for (const name of names) {
      const time = random.pick(["1999-01-01", "2003-02-02"]);
      if (random.chance(40)) lines.push(`touch -chd ${time} ${quoted(`${top}/${name}`)} 2>/dev/null; true`);
    }
  }
  return lines;
}

/** A path as a word for the shell, whatever its bytes. */
export function quoted(path: string): string {
  if (/^[ -~]*$/.test(path)) return `'${path.replaceAll("'", "'\\''")}'`;
  const escaped = path.replace(/[^a-zA-Z0-9/._ -]/g, (byte) => `\\${byte.charCodeAt(0).toString(8).padStart(3, "0")}`);
  return `"$(printf -- '${escaped}')"`;
}
