// Where copyd's mv is meant to differ from coreutils 9.1's.

import { Differences } from "../differences.ts";

const because = {
  names: "newer coreutils name the source too (9.2: cannot overwrite directory 'x' with non-directory 'y')",
  strip: "the manual says that each SOURCE loses its slashes; coreutils strips them only where there is a target directory",
  status: "since coreutils 9.2 a declined prompt ends in status 1",
  nothing: "nothing has the empty name: no release says anything truer than 9.1 did",
  backup: "newer coreutils' words",
  overwrite: "newer coreutils name only the destination where that is what is in the way",
} as const;

export const mvDifferences = new Differences({
  "a file over a directory": {
    because: because.names,
    newer: "alike",
    lines: [
      "-err: mv: cannot overwrite directory 'd/a' with non-directory",
      "+err: mv: cannot overwrite directory 'd/a' with non-directory 'a'",
    ],
  },
  "a file over a directory with -T": {
    because: because.names,
    newer: "alike",
    lines: [
      "-err: mv: cannot overwrite directory 'd' with non-directory",
      "+err: mv: cannot overwrite directory 'd' with non-directory 'a'",
    ],
  },
  "one of several arguments fails across filesystems": {
    because: because.names,
    newer: "alike",
    lines: [
      "-err: mv: cannot overwrite directory 'm/a' with non-directory",
      "+err: mv: cannot overwrite directory 'm/a' with non-directory 'a'",
    ],
  },
  "a directory over a full directory": {
    because: because.overwrite,
    newer: "alike",
    lines: ["-err: mv: cannot move 'd' to 'e/d': Directory not empty", "+err: mv: cannot overwrite 'e/d': Directory not empty"],
  },
  "a directory over a full directory with -T": {
    because: because.overwrite,
    newer: "alike",
    lines: ["-err: mv: cannot move 'd' to 'e': Directory not empty", "+err: mv: cannot overwrite 'e': Directory not empty"],
  },
  "to the empty name": {
    because: because.nothing,
    lines: [],
    newer: ["-err: mv: cannot overwrite directory '' with non-directory 'a'", "+err: mv: cannot move 'a' to '': No such file or directory"],
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
    newer: "alike",
    lines: ["-status: 0", "+status: 1"],
  },
  "-i of several": {
    because: because.status,
    newer: "alike",
    lines: ["-status: 0", "+status: 1"],
  },
  "-f -i": {
    because: because.status,
    newer: "alike",
    lines: ["-status: 0", "+status: 1"],
  },
  "-b and -n": {
    because: because.backup,
    newer: "alike",
    lines: [
      "-err: mv: options --backup and --no-clobber are mutually exclusive",
      "+err: mv: cannot combine --backup with --exchange, -n, or --update=none-fail",
    ],
  },
});
