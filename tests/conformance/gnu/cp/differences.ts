// Where copyd's cp is meant to differ from coreutils 9.1's.

import { Differences } from "../differences.ts";

const because = {
  strip: "the manual says that each SOURCE loses its slashes; coreutils strips them only where there is a target directory",
  names: "newer coreutils name the source too (9.2: cannot overwrite directory 'x' with non-directory 'y')",
  itself: "copyd refuses before it makes anything; coreutils notices when it meets its own copy (copy-rules.md, rule 15)",
  safer: "the old file stays until the new one is complete (copy-rules.md, rule 4)",
  backedUp: "newer coreutils back up whatever a directory takes the place of",
  sticky: "an owner that could not be kept is no reason to let others remove each other's files; coreutils 9.1 keeps the bit too",
  backup: "newer coreutils' words",
  status: "since coreutils 9.2 a declined prompt ends in status 1",
  update: "-u protects newer files: coreutils replaces them by hard links (its source says so), copyd does not",
  setuid: "setuid and setgid bits do not pass to another owner (copy-rules.md, rule 20)",
  setgid: "-a gives the source's mode; coreutils 9.1 leaves the inherited setgid bit, since it sets the mode as an ACL, later ones do not",
  acl: "a directory's default ACL decides about its new files; coreutils drops what it gave",
  half: "a file that could not be copied leaves nothing under its final name (copy-rules.md, rule 3)",
  mount: "a mount is no hard link, and the words say what happens",
  dot: "coreutils asks mkdir for a name that ends in a dot",
} as const;

export const cpDifferences = new Differences({
  "--strip-trailing-slashes of a link to a directory": {
    because: because.strip,
    lines: [
      "-m dir 0755 me:me mtime=981173106250000000 new",
      '-m/f file 0644 me:me mtime=981173106250000000 new size=2 "x\\n"',
      "+m link 0777 me:me mtime=981173106250000000 new ->d",
    ],
  },
  "-T onto a directory": {
    because: because.names,
    newer: "alike",
    lines: [
      "-err: cp: cannot overwrite directory 'd' with non-directory",
      "+err: cp: cannot overwrite directory 'd' with non-directory 'a'",
    ],
  },
  "a file over a directory": {
    because: because.names,
    newer: "alike",
    lines: [
      "-err: cp: cannot overwrite directory 'd/a' with non-directory",
      "+err: cp: cannot overwrite directory 'd/a' with non-directory 'a'",
    ],
  },
  "a file over a directory inside": {
    because: because.names,
    newer: "alike",
    lines: [
      "-err: cp: cannot overwrite directory 'x/d/one' with non-directory",
      "+err: cp: cannot overwrite directory 'x/d/one' with non-directory 'd/one'",
    ],
  },
  "a link over a directory inside": {
    because: because.names,
    newer: "alike",
    lines: [
      "-err: cp: cannot overwrite directory 'x/d/link' with non-directory",
      "+err: cp: cannot overwrite directory 'x/d/link' with non-directory 'd/link'",
    ],
  },
  "a tree into itself": {
    because: because.itself,
    lines: [
      "-d dir 0755 me:me now was=d",
      "-d/d dir 0755 me:me now new",
      "-d/d/link link 0777 me:me now new ->one",
      '-d/d/one file 0644 me:me now new size=2 "1\\n"',
      "-d/d/sub dir 0755 me:me now new",
      "-d/d/sub/deep dir 0755 me:me now new",
      '-d/d/sub/deep/three file 0644 me:me now new size=2 "3\\n"',
      '-d/d/sub/two file 0644 me:me now new size=2 "2\\n"',
      "+d dir 0755 me:me mtime=981173106250000000 was=d",
    ],
  },
  "a tree into its subdirectory": {
    because: because.itself,
    lines: [
      "-d/sub dir 0755 me:me now was=d/sub",
      "-d/sub/d dir 0755 me:me now new",
      "-d/sub/d/sub dir 0755 me:me now new",
      "-d/sub/d/sub/deep dir 0755 me:me now new",
      '-d/sub/d/sub/deep/three file 0644 me:me now new size=2 "3\\n"',
      '-d/sub/d/sub/two file 0644 me:me now new size=2 "2\\n"',
      "+d/sub dir 0755 me:me mtime=981173106250000000 was=d/sub",
    ],
  },
  "a tree to a new name inside itself": {
    because: because.itself,
    lines: [
      "-d dir 0755 me:me now was=d",
      "+d dir 0755 me:me mtime=981173106250000000 was=d",
      "-d/new dir 0755 me:me now new",
      "-d/new/link link 0777 me:me now new ->one",
      '-d/new/one file 0644 me:me now new size=2 "1\\n"',
      "-d/new/sub dir 0755 me:me now new",
      "-d/new/sub/deep dir 0755 me:me now new",
      '-d/new/sub/deep/three file 0644 me:me now new size=2 "3\\n"',
      '-d/new/sub/two file 0644 me:me now new size=2 "2\\n"',
    ],
  },
  "here into here": {
    because: because.itself,
    lines: ["-e dir 0755 me:me now was=e", "-e/e dir 0755 me:me now new", "+e dir 0755 me:me mtime=981173106250000000 was=e"],
  },
  "--remove-destination of a directory": {
    because: because.names,
    newer: "alike",
    lines: [
      "-err: cp: cannot overwrite directory 'b' with non-directory",
      "+err: cp: cannot overwrite directory 'b' with non-directory 'a'",
    ],
  },
  "--remove-destination with an unreadable source": {
    because: because.safer,
    lines: [],
    asUser: [
      "-. dir 0755 me:me now was=.",
      "+. dir 0755 me:me mtime=981173106250000000 was=.",
      '+b file 0644 me:me mtime=981173106250000000 was=b size=4 "old\\n"',
    ],
  },
  "-n and --backup": {
    because: because.backup,
    newer: "alike",
    lines: [
      "-err: cp: options --backup and --no-clobber are mutually exclusive",
      "+err: cp: --backup is mutually exclusive with -n or --update=none-fail",
    ],
  },
  "-i no": {
    because: because.status,
    newer: "alike",
    lines: ["-status: 0", "+status: 1"],
  },
  "-i and no answer": {
    because: because.status,
    newer: "alike",
    lines: ["-status: 0", "+status: 1"],
  },
  "-i in a tree": {
    because: because.status,
    newer: "alike",
    lines: ["-status: 0", "+status: 1"],
  },
  "-i of several files": {
    because: because.status,
    newer: "alike",
    lines: ["-status: 0", "+status: 1"],
  },
  "-i, a file over a directory": {
    because: because.names,
    newer: "alike",
    lines: [
      "-err: cp: overwrite 'd/a'? cp: cannot overwrite directory 'd/a' with non-directory",
      "+err: cp: overwrite 'd/a'? cp: cannot overwrite directory 'd/a' with non-directory 'a'",
    ],
  },
  "-u keeps hard links over skipped files": {
    because: because.update,
    lines: [
      '-d/s/a file 0644 me:me mtime=978307200000000000 new size=2 "1\\n" links=2',
      '-d/s/b file 0644 me:me mtime=978307200000000000 new size=2 "1\\n" same-as=d/s/a',
      '+d/s/a file 0644 me:me mtime=981173106250000000 was=d/s/a size=6 "newer\\n"',
      '+d/s/b file 0644 me:me mtime=978307200000000000 new size=2 "1\\n"',
    ],
    inOtherOrder: [
      '-d/s/a file 0644 me:me mtime=978307200000000000 new size=2 "1\\n" links=2',
      '-d/s/b file 0644 me:me mtime=978307200000000000 new size=2 "1\\n" same-as=d/s/a',
      '+d/s/a file 0644 me:me mtime=981173106250000000 was=d/s/a size=6 "newer\\n" links=2',
      '+d/s/b file 0644 me:me mtime=981173106250000000 was=d/s/a size=6 "newer\\n" same-as=d/s/a',
    ],
  },
  "-u with hard links leaves newer files": {
    because: because.update,
    lines: [
      "-out: removed 'd/s/a'",
      '-d/s/a file 0644 me:me mtime=981173106250000000 was=d/s/b size=10 "newer too\\n" links=2',
      '-d/s/b file 0644 me:me mtime=981173106250000000 was=d/s/b size=10 "newer too\\n" same-as=d/s/a',
      '+d/s/a file 0644 me:me mtime=981173106250000000 was=d/s/a size=6 "newer\\n"',
      '+d/s/b file 0644 me:me mtime=981173106250000000 was=d/s/b size=10 "newer too\\n"',
    ],
  },
  "a file over a link to a directory with -T": {
    because: because.names,
    newer: "alike",
    lines: [
      "-err: cp: cannot overwrite directory 'l' with non-directory",
      "+err: cp: cannot overwrite directory 'l' with non-directory 'a'",
    ],
  },
  "-b, a file over a directory": {
    because: because.names,
    newer: "alike",
    lines: ["-err: cp: cannot overwrite directory 'd/f' with non-directory", "+err: cp: cannot create regular file 'd/f': Is a directory"],
  },
  "-b, a directory over a file": {
    because: because.backedUp,
    newer: "alike",
    lines: [
      "-status: 1",
      "-err: cp: cannot overwrite non-directory 'd/f' with directory 'f'",
      "+status: 0",
      "-d dir 0755 me:me mtime=981173106250000000 was=d",
      '-d/f file 0644 me:me mtime=981173106250000000 was=d/f size=2 "1\\n"',
      "+d dir 0755 me:me now was=d",
      "+d/f dir 0755 me:me now new",
      '+d/f~ file 0644 me:me mtime=981173106250000000 was=d/f size=2 "1\\n"',
    ],
  },
  "somebody else's tree with -a": {
    because: because.sticky,
    lines: [],
    newer: ["-e dir 0777 me:me mtime=981173106250000000 new", "+e dir 1777 me:me mtime=981173106250000000 new"],
  },
  "-b with -n": {
    because: because.backup,
    newer: "alike",
    lines: [
      "-err: cp: options --backup and --no-clobber are mutually exclusive",
      "+err: cp: --backup is mutually exclusive with -n or --update=none-fail",
    ],
  },
  "no owners with -a --no-preserve=ownership": {
    because: because.setuid,
    lines: [
      '-e/f file 6755 me:me mtime=981173106250000000 new size=2 "x\\n"',
      '+e/f file 0755 me:me mtime=981173106250000000 new size=2 "x\\n"',
    ],
  },
  "setgid directories with -a": {
    because: because.setgid,
    newer: "alike",
    lines: [
      "-d/s dir 2755 me:me mtime=981173106250000000 new",
      "+d/s dir 0755 me:me mtime=981173106250000000 new",
      "-d/s/t dir 2755 me:me mtime=981173106250000000 new",
      "+d/s/t dir 0755 me:me mtime=981173106250000000 new",
    ],
  },
  "a default ACL and --no-preserve=mode": {
    because: because.acl,
    lines: [
      '-d/f file 0644 me:me now new size=2 "x\\n"',
      '+d/f file 0664 me:me now new size=2 "x\\n" system.posix_acl_access=0x0200000001000600ffffffff020006000700000004000500ffffffff10000600ffffffff20000400ffffffff',
    ],
  },
  "/proc/self/mem cannot be read": {
    because: because.half,
    lines: ["-. dir 0755 me:me now was=.", "+. dir 0755 me:me mtime=981173106250000000 was=."],
  },
  "a file that cannot be read to the end": {
    because: because.half,
    lines: ["-. dir 0755 me:me now was=.", '-f file 0600 me:me now new size=0 ""', "+. dir 0755 me:me mtime=981173106250000000 was=."],
  },
  "--reflink=always where it cannot": {
    because: because.half,
    newer: ["-. dir 0755 me:me now was=.", "+. dir 0755 me:me mtime=981173106250000000 was=."],
    lines: ["-. dir 0755 me:me now was=.", "+. dir 0755 me:me mtime=981173106250000000 was=.", '-g file 0644 me:me now new size=0 ""'],
  },
  "a directory bound into itself": {
    because: because.mount,
    lines: ["-err: cp: will not create hard link 'e/m' to directory 'e'", "+err: cp: cannot copy 'd/m' into a copy of itself, 'e/m'"],
  },
  "--parents with a slash and a dot at the end": {
    because: because.dot,
    lines: [
      "-status: 1",
      "-err: cp: cannot create directory 'x/a/b/.': File exists",
      "+status: 0",
      "+x/a/b/c dir 0755 me:me now new",
      '+x/a/b/c/f file 0644 me:me now new size=2 "1\\n"',
      '+x/a/b/g file 0644 me:me now new size=2 "2\\n"',
    ],
  },
  "-v with errors": {
    because: because.names,
    newer: "alike",
    lines: [
      "-err: cp: cannot overwrite directory 'e/d/b' with non-directory",
      "+err: cp: cannot overwrite directory 'e/d/b' with non-directory 'd/b'",
    ],
  },
});
