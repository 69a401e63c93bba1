// `cp --help` and `mv --help`, in our own words.

import type { Program } from "./copy-settings.ts";

/** The whole text, with the last newline. */
export function copyHelp(program: Program): string {
  const options = program === "cp" ? cpOptions : mvOptions;
  return `${program === "cp" ? cpIntroduction : mvIntroduction}
Options (as GNU ${program}'s; what stands in brackets may be left out):
${table(options)}

copyd's own:
${table(ownOf(program))}

${program === "cp" ? cpNotes : ""}${notes(program)}`;
}

/** Its options and what they mean, for the manual page and the completions: the program's own, then those that only copyd has. */
export function copyHelpRows(program: Program): { readonly options: Rows; readonly own: Rows } {
  return { options: program === "cp" ? cpOptions : mvOptions, own: ownOf(program) };
}

function ownOf(program: Program): Rows {
  const rows = ownOptions.filter(([option]) => program === "cp" || !onlyOfCp.has(option));
  return program === "cp" ? [dryRun, ...rows] : rows;
}

export type Rows = readonly (readonly [option: string, meaning: string])[];

/** Options in one column, meanings wrapped by hand in the other. */
function table(rows: Rows): string {
  return rows
    .map(([option, meaning]) => {
      const [first, ...more] = meaning.split("\n");
      const wide = option.length > 27 ? `  ${option}\n${" ".repeat(31)}` : `  ${option.padEnd(29)}`;
      return [wide + first, ...more.map((line) => " ".repeat(31) + line)].join("\n");
    })
    .join("\n");
}

const cpIntroduction = `Usage: copyd cp [OPTION]... [-T] SOURCE DESTINATION
       copyd cp [OPTION]... SOURCE... DIRECTORY
       copyd cp [OPTION]... -t DIRECTORY SOURCE...

Copies files, and with -r directories. Everything that GNU cp 9 takes is taken, and means the same.
`;

const mvIntroduction = `Usage: copyd mv [OPTION]... [-T] SOURCE DESTINATION
       copyd mv [OPTION]... SOURCE... DIRECTORY
       copyd mv [OPTION]... -t DIRECTORY SOURCE...

Renames SOURCE, or moves each SOURCE into DIRECTORY. Between filesystems, a source is removed only when its copy is
complete and on the device. Everything that GNU mv 9 takes is taken, and means the same.
`;

const backupRows: Rows = [
  [
    "--backup[=CONTROL]",
    "keep a backup of each file that would be replaced. CONTROL: none (off),\nnumbered (t), existing (nil), simple (never)",
  ],
  ["-b", "the same, CONTROL from $VERSION_CONTROL, else existing"],
];
const commonRows: Rows = [
  ["--strip-trailing-slashes", "take SOURCE/ for SOURCE"],
  ["-S, --suffix=SUFFIX", "what a simple backup's name ends in; $SIMPLE_BACKUP_SUFFIX, else ~"],
  ["-t, --target-directory=DIR", "the directory that all sources go into"],
  ["-T, --no-target-directory", "DESTINATION is the new name itself, never a directory to put it in"],
  ["--update[=WHICH]", "which existing files are replaced: all, none, none-fail (and that is an\nerror), older (the default of --update)"],
  ["-u", "as --update=older"],
  ["-v, --verbose", "a line for each file"],
  ["--debug", "also how each file was copied"],
];

const cpOptions: Rows = [
  ["-a, --archive", "keep everything: -dR --preserve=all"],
  ["--attributes-only", "copy no data, only what --preserve names"],
  ...backupRows,
  ["--copy-contents", "with -r, read devices and FIFOs instead of recreating them"],
  ["-d", "-P --preserve=links"],
  ["-f, --force", "remove a destination that cannot be opened, and try again"],
  ["-i, --interactive", "ask before replacing"],
  ["-H", "follow symbolic links among the arguments"],
  ["-l, --link", "make hard links"],
  ["-L, --dereference", "follow all symbolic links"],
  ["-n, --no-clobber", "leave existing files alone, silently"],
  ["-P, --no-dereference", "copy symbolic links as such"],
  ["-p", "--preserve=mode,ownership,timestamps"],
  ["--preserve[=LIST]", "keep mode, ownership, timestamps (without LIST: these), links,\ncontext, xattr, all"],
  ["--no-preserve=LIST", "do not keep these"],
  ["--parents", "recreate the path of SOURCE below DIRECTORY"],
  ["-R, -r, --recursive", "copy directories with all that is in them"],
  ["--reflink[=WHEN]", "share the data on disk: auto, always (the default of --reflink), never"],
  ["--remove-destination", "remove each existing destination first"],
  ["--sparse=WHEN", "holes in the copy: auto (as in the source), always (zeros too), never"],
  ["-s, --symbolic-link", "make symbolic links"],
  ...commonRows,
  ["--keep-directory-symlink", "a link to a directory at the destination counts as the directory"],
  ["-x, --one-file-system", "stay on the filesystem of each source"],
  ["-Z, --context[=CONTEXT]", "ignored: security contexts are not set"],
  ["--help, --version", "this text; the version"],
];

const mvOptions: Rows = [
  ...backupRows,
  ["--exchange", "swap SOURCE and DESTINATION"],
  ["-f, --force", "do not ask"],
  ["-i, --interactive", "ask before replacing"],
  ["-n, --no-clobber", "leave existing files alone, silently; the last of -f, -i, -n counts"],
  ["--no-copy", "fail where a rename cannot do it"],
  ...commonRows,
  ["-Z, --context", "ignored: security contexts are not set"],
  ["--help, --version", "this text; the version"],
];

const dryRun = ["--dry-run", "say what would be done, and do nothing"] as const;
const onlyOfCp: ReadonlySet<string> = new Set(["--also=DEST", "--manifest=FILE"]);
const ownOptions: Rows = [
  [
    "--progress[=WHEN]",
    "how far it is, on standard error: auto (on a terminal; without this option),\nalways (in a pipe, one line a second; the default of --progress), never",
  ],
  ["--json", "one JSON object a line on standard output, see below"],
  ["--local", "copy in this process, without the service"],
  ["--session", "through the service on the session bus"],
  [
    "--admin",
    "with the administrator's rights, if polkit allows it; asks for a password on a\nterminal. Existing files are replaced, not written into; of links among the\narguments, root's are followed",
  ],
  ["--verify[=METHOD]", "read back what was written and compare: xxh3 (the default of --verify),\nblake3, sha256, md5, crc32, size, none"],
  [
    "--also=DEST",
    "copy to DEST as well, reading the sources once; several times, for up to eight\ndestinations. Each has its own result: a full disk stops no other",
  ],
  [
    "--manifest=FILE",
    "write a digest of each copied file to FILE, for sha256sum -c in DEST\n(with --verify=METHOD for md5sum, b3sum or xxhsum), or copyd verify",
  ],
  ["--durability=WHEN", "when data must be on the device: none (as cp), file (each before it gets\nits name), job (all before the end)"],
  ["--limit-rate=BYTES", "bytes a second at most, e.g. 20M; 0: no limit"],
  [
    "--on-full=ask|fail",
    "a full disk or a used-up quota: fail (the default, as cp), or ask and wait:\nthe copy goes on by itself when there is room",
  ],
  ["--on-lost=ask|fail", "likewise for a device or connection that goes away in the middle"],
  ["--cache=keep|drop", "whether what is copied stays in the page cache (the default: as the kernel has it)\nor is dropped from it"],
  ["--engine=ENGINE", "what moves the data: auto (the default), reflink, copy-file-range, io-uring,\nsplice, read-write"],
  ["--lanes=N", "threads that copy, 1 to 64; 0 (the default): as many as pay. With --local"],
];

const cpNotes = `What is not asked for is as in cp: mode less the umask, no times, no owner; existing files are overwritten in place, so
what stops the copy cuts such a file off. With --remove-destination or --backup the old file stays until the new one is whole.

`;
/** The objects that --json writes, by their type. */
export const jsonObjects: Rows = [
  ["progress", "state, phase, bytesDone, bytesTotal, totalsValid, filesDone, rate, currentFile, ... (times in microseconds)"],
  ["error, warning", "path, code, errno, syscall, message"],
  ["line", "text (with -v)"],
  ["question", "kind, source, destination, choices, message, ...; the answer is read from standard input"],
  ["operation", "action, object, source, destination, bytes, code, message (with --dry-run)"],
  ["summary", "counts, files, directories, bytes, conflicts, spaceNeeded, spaceFree, ... (with --dry-run; the last one)"],
  ["result", "state, code, message, bytesDone, filesDone, errorCount, elapsedUs, ...; the last one"],
];
export const alsoNote =
  "With --also, errors, warnings, summaries and a result for each name their destination; the last result is that of all.";
export const base64Note =
  'A name that is not UTF-8 is given a second time, its bytes in base64, under the same key with "Base64" appended.';

function notes(program: Program): string {
  const objects = jsonObjects.filter(([, fields]) => program === "cp" || !fields.includes("--dry-run"));
  return `With --json, each object has a "type":
${objects.map(([type, fields]) => `  ${`${type}  `.padEnd(12)}${fields}\n`).join("")}${program === "cp" ? `${alsoNote}\n` : ""}${base64Note}

Exit status: 0 when all was done, 1 when something was not, 128 + n when signal n stopped it (Ctrl-C: 130; what is finished
stays, and no new file is left half-done; a second Ctrl-C does not wait). Without a service \`copyd ${program}\` does the same by itself.
`;
}
