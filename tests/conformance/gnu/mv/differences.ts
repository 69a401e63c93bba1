// Where copyd's mv is meant to differ from coreutils 9.1's.

import { Differences } from "../differences.ts";

const because = {
  names: "newer coreutils name the source too (9.2: cannot overwrite directory 'x' with non-directory 'y')",
  strip: "the manual says that each SOURCE loses its slashes; coreutils strips them only where there is a target directory",
  status: "since coreutils 9.2 a declined prompt ends in status 1",
  backup: "newer coreutils' words",
  overwrite: "newer coreutils name only the destination where that is what is in the way",
} as const;

export const mvDifferences = new Differences({
  "a file over a directory": {
    because: because.names,
    lines: [
      "-err: mv: cannot overwrite directory 'd/a' with non-directory",
      "+err: mv: cannot overwrite directory 'd/a' with non-directory 'a'",
    ],
  },
  "a file over a directory with -T": {
    because: because.names,
    lines: [
      "-err: mv: cannot overwrite directory 'd' with non-directory",
      "+err: mv: cannot overwrite directory 'd' with non-directory 'a'",
    ],
  },
  "one of several arguments fails across filesystems": {
    because: because.names,
    lines: [
      "-err: mv: cannot overwrite directory 'm/a' with non-directory",
      "+err: mv: cannot overwrite directory 'm/a' with non-directory 'a'",
    ],
  },
  "a directory over a full directory": {
    because: because.overwrite,
    lines: ["-err: mv: cannot move 'd' to 'e/d': Directory not empty", "+err: mv: cannot overwrite 'e/d': Directory not empty"],
  },
  "a directory over a full directory with -T": {
    because: because.overwrite,
    lines: ["-err: mv: cannot move 'd' to 'e': Directory not empty", "+err: mv: cannot overwrite 'e': Directory not empty"],
  },
  "--strip-trailing-slashes": {
    because: because.strip,
    lines: [
      "-status: 1",
      "-err: mv: cannot move 'l' to 'm': Not a directory",
      "-. dir 0755 me:me mtime=981173106250000000 was=.",
      "+status: 0",
      "+. dir 0755 me:me now was=.",
      "-l link 0777 me:me mtime=981173106250000000 was=l ->d",
      "+m link 0777 me:me mtime=981173106250000000 was=l ->d",
    ],
  },
  "-i no": {
    because: because.status,
    lines: ["-status: 0", "+status: 1"],
  },
  "-i of several": {
    because: because.status,
    lines: ["-status: 0", "+status: 1"],
  },
  "-f -i": {
    because: because.status,
    lines: ["-status: 0", "+status: 1"],
  },
  "-b and -n": {
    because: because.backup,
    lines: [
      "-err: mv: options --backup and --no-clobber are mutually exclusive",
      "+err: mv: cannot combine --backup with --exchange, -n, or --update=none-fail",
    ],
  },
});
