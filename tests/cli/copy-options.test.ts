// cp's and mv's command lines: mistakes are answered in the system's own words, and what is right means what coreutils means.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ByteString, byteString, byteStringFromText } from "../../src/bytes.ts";
import { type CopyCommand, parseCopyCommand } from "../../src/cli/copy-options.ts";
import { type CallerContext, requestOf } from "../../src/cli/copy-request.ts";
import type { Program } from "../../src/cli/copy-settings.ts";
import { UsageError, usageMessage } from "../../src/cli/getopt.ts";
import { messageCharset } from "../../src/quote.ts";
import type { JobRequest } from "../../src/request.ts";
import { requestSchema } from "../../src/request-schema.ts";

type Environment = Readonly<Record<string, string>>;

const emptyDirectory = mkdtempSync(join(tmpdir(), "copyd-options-"));
afterAll(() => rmSync(emptyDirectory, { recursive: true }));

interface Answer {
  readonly status: number;
  readonly stderr: string;
}

function ours(program: Program, arguments_: readonly string[], environment: Environment): Answer & { readonly command?: CopyCommand } {
  let stderr = "";
  try {
    const parsed = parseCopyCommand(program, arguments_.map(byteStringFromText), {
      environment,
      charset: messageCharset(environment),
      selinux: false,
      warn: (text) => {
        stderr += `${program}: ${text}\n`;
      },
    });
    return parsed.kind === "copy" ? { status: 0, stderr, command: parsed } : { status: 0, stderr };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return { status: 1, stderr: stderr + usageMessage(program, error) };
  }
}

function system(program: Program, arguments_: readonly string[], environment: Environment): Answer {
  const run = Bun.spawnSync([program, ...arguments_], { cwd: emptyDirectory, env: { PATH: "/usr/bin:/bin", ...environment }, stdin: null });
  return { status: run.exitCode, stderr: byteString(run.stderr) };
}

const utf8: Environment = { LC_ALL: "C.UTF-8" };

/** Mistakes that every release since 9.1 answers alike. */
const mistakes: readonly [Program, string, Environment?][] = [
  ["cp", ""],
  ["cp", "a"],
  ["cp", "-- a"],
  ["cp", "-r"],
  ["cp", "-y"],
  ["cp", "-ay a b"],
  ["cp", "a -y b"],
  ["cp", "-é a b"],
  ["cp", "--foo a b"],
  ["cp", "--foo=bar a b"],
  ["cp", "---"],
  ["cp", "--re a b"],
  ["cp", "--p a b"],
  ["cp", "--pr"],
  ["cp", "--pa"],
  ["cp", "--no a b"],
  ["cp", "--no=x a b"],
  ["cp", "--s a b"],
  ["cp", "--st"],
  ["cp", "--a a b"],
  ["cp", "--ver"],
  ["cp", "--force=3 a b"],
  ["cp", "--forc=3 a b"],
  ["cp", "--archive= a b"],
  ["cp", "--suffix"],
  ["cp", "--suf"],
  ["cp", "--target-directory"],
  ["cp", "--sparse"],
  ["cp", "--no-preserve"],
  ["cp", "-S"],
  ["cp", "-t"],
  ["cp", "-at"],
  ["cp", "-t x -t y"],
  ["cp", "-tx -ty a"],
  ["cp", "-t x"],
  ["cp", "-T -t x a"],
  ["cp", "-T a"],
  ["cp", "-T a b c"],
  ["cp", "-T a b it's"],
  ["cp", "-l -s a b"],
  ["cp", "-ls"],
  ["cp", "--reflink=always --sparse=never a b"],
  ["cp", "--reflink --sparse=always a b"],
  ["cp", "--reflink=foo a b"],
  ["cp", "--reflink=a a b"],
  ["cp", "--reflink= a b"],
  ["cp", "--sparse=foo a b"],
  ["cp", "--sparse= a b"],
  ["cp", "--sparse=a a b"],
  ["cp", "--preserve=foo a b"],
  ["cp", "--preserve=mode,foo a b"],
  ["cp", "--preserve=mode, a b"],
  ["cp", "--preserve= a b"],
  ["cp", "--no-preserve=foo a b"],
  ["cp", "--backup=foo a b"],
  ["cp", "--backup=n a b"],
  ["cp", "--backup=foo"],
  ["cp", "-b a b", { VERSION_CONTROL: "x" }],
  ["cp", "--backup= a b", { VERSION_CONTROL: "n" }],
  ["cp", "--preserve=context a b"],
  ["cp", "--preserve=c a b"],
  ["cp", "a -y", { POSIXLY_CORRECT: "1" }],
  ["cp", "-a"],
  ["cp", "-y", { LC_ALL: "C" }],
  ["cp", "--sparse=é a b", { LC_ALL: "C" }],
  ["cp", "--sparse=é a b"],
  ["cp", "--backup=foo a b", { LC_ALL: "C" }],
  ["cp", "é", { LC_ALL: "C" }],
  ["cp", "é"],
  ["mv", ""],
  ["mv", "a"],
  ["mv", "-y"],
  ["mv", "-r a b"],
  ["mv", "--foo a b"],
  ["mv", "--no a b"],
  ["mv", "--s a b"],
  ["mv", "--ver"],
  ["mv", "--force=1 a b"],
  ["mv", "--suffix"],
  ["mv", "-S"],
  ["mv", "-t x -t y"],
  ["mv", "-T -t x a"],
  ["mv", "-T a b c"],
  ["mv", "--backup=foo -T a b"],
  ["mv", "--backup=n -T a b"],
  ["mv", "-b -T a b", { VERSION_CONTROL: "x" }],
];

for (const [program, line, environment] of mistakes) {
  const shown = [...Object.entries(environment ?? {}).map(([name, value]) => `${name}=${value}`), program, line].join(" ");
  test(`the mistake in \`${shown}\` is answered as the system's ${program} does`, () => {
    const arguments_ = line.split(" ").filter((word) => word !== "");
    const all = { ...utf8, ...environment };
    const { status, stderr } = ours(program, arguments_, all);
    // What the system's program finds out only by looking at files is not the parser's matter.
    const expected = system(program, arguments_, all);
    const parsing = expected.stderr.replace(/^(cp|mv): (cannot stat|target).*\n/gm, "");
    expect(stderr).toBe(withNewerNames(parsing));
    if (parsing !== "") expect(status).toBe(expected.status);
  });
}

/** The only lists that grew since 9.1 without changing what is right. */
function withNewerNames(stderr: string): string {
  return stderr.replace(
    "possibilities: '--no-clobber' '--no-target-directory'",
    "possibilities: '--no-clobber' '--no-copy' '--no-target-directory'",
  );
}

const newer: readonly [Program, string, string][] = [
  ["cp", "-b -n a b", "cp: --backup is mutually exclusive with -n or --update=none-fail\nTry 'cp --help' for more information.\n"],
  [
    "cp",
    "-b --update=none-fail a b",
    "cp: --backup is mutually exclusive with -n or --update=none-fail\nTry 'cp --help' for more information.\n",
  ],
  [
    "mv",
    "-b --exchange a b",
    "mv: cannot combine --backup with --exchange, -n, or --update=none-fail\nTry 'mv --help' for more information.\n",
  ],
  ["cp", "--de a b", "cp: option '--de' is ambiguous; possibilities: '--debug' '--dereference'\nTry 'cp --help' for more information.\n"],
  [
    "cp",
    "--update=x a b",
    "cp: invalid argument ‘x’ for ‘--update’\nValid arguments are:\n  - ‘all’\n  - ‘none’\n  - ‘none-fail’\n  - ‘older’\nTry 'cp --help' for more information.\n",
  ],
  [
    "cp",
    "--limit-rate=0.4 a b",
    "cp: invalid --limit-rate argument ‘0.4’: a number of bytes like 500K, 20M or 1.5G is wanted\nTry 'cp --help' for more information.\n",
  ],
  [
    "cp",
    "--limit-rate=fast a b",
    "cp: invalid --limit-rate argument ‘fast’: a number of bytes like 500K, 20M or 1.5G is wanted\nTry 'cp --help' for more information.\n",
  ],
  ["mv", "--lanes=65 a b", "mv: invalid --lanes argument ‘65’: a number from 0 to 64 is wanted\nTry 'mv --help' for more information.\n"],
];

for (const [program, line, expected] of newer) {
  test(`\`${program} ${line}\` is refused as the newest release does, or in its manner`, () => {
    expect(ours(program, line.split(" "), utf8)).toEqual({ status: 1, stderr: byteStringFromText(expected) });
  });
}

test("a control character in a mistaken option does not reach the terminal", () => {
  expect(ours("cp", ["-\x1b]0;x\x07", "b"], utf8).stderr).toBe("cp: invalid option -- '\\033'\nTry 'cp --help' for more information.\n");
  expect(ours("cp", ["--\x1b[2J", "b"], utf8).stderr).toContain("unrecognized option '--\\033[2J'");
});

test("a context is ignored with a warning where there is no SELinux", () => {
  expect(ours("cp", ["--context=foo", "a", "b"], utf8).stderr).toBe(
    "cp: warning: ignoring --context; it requires an SELinux-enabled kernel\n",
  );
  expect(ours("cp", ["-Z", "a", "b"], utf8).stderr).toBe("");
});

test("--help and --version are found at their place: a mistake before them is told, one behind them is not", () => {
  const context = { environment: {}, charset: "utf-8", selinux: false, warn: () => {} } as const;
  expect(parseCopyCommand("cp", ["--help", "-y"].map(byteStringFromText), context).kind).toBe("help");
  expect(parseCopyCommand("mv", ["--versi"].map(byteStringFromText), context).kind).toBe("version");
  expect(ours("cp", ["-y", "--help"], utf8).status).toBe(1);
});

const caller: CallerContext = {
  workingDirectory: "/home/me" as ByteString,
  umask: 0o27,
  charset: "utf-8",
  privileged: false,
  stdinIsTerminal: true,
};

function request(program: Program, line: string, environment: Environment = {}): JobRequest {
  const { command, stderr } = ours(program, line.split(" "), environment);
  if (command === undefined) throw new Error(stderr);
  return requestOf(command, caller);
}

test("every request is one that the service's schema takes", () => {
  for (const [program, line] of [
    ["cp", "a b"],
    ["cp", "-a --debug -bS .x -t d a b c"],
    ["mv", "-u a b"],
    ["mv", "--exchange a b"],
  ] as const) {
    const made = request(program, line);
    expect(requestSchema.parse(made)).toEqual(made);
  }
});

test("plain cp keeps nothing, follows links, reads special files, writes in place and does not sync", () => {
  const { operation, options } = request("cp", "a b");
  expect(operation).toBe("copy");
  expect(options).toMatchObject({
    recursive: false,
    preserve: ["sparse"],
    symlinks: "follow",
    specials: false,
    onConflict: "overwrite",
    durability: "none",
    umask: 0o27,
    reflink: "auto",
    onDisconnect: "cancel",
  });
  expect(options.gnu).toMatchObject({ inPlace: true, copyContents: true, force: false, required: [] });
});

test("-r keeps links as links and recreates special files; -L follows; -H follows those named", () => {
  expect(request("cp", "-r a b").options).toMatchObject({ symlinks: "copy", specials: true, gnu: { copyContents: false } });
  expect(request("cp", "-rL a b").options.symlinks).toBe("follow");
  expect(request("cp", "-RH a b").options.symlinks).toBe("follow-arguments");
  expect(request("cp", "-rl a b").options.symlinks).toBe("follow");
  expect(request("cp", "-r --copy-contents a b").options).toMatchObject({ specials: false, gnu: { copyContents: true } });
});

test("-a is -dR --preserve=all without requiring xattrs", () => {
  const { options } = request("cp", "-a a b");
  expect([...options.preserve].sort()).toEqual(["acl", "hardlinks", "links", "mode", "owner", "sparse", "times", "xattr"]);
  expect(options).toMatchObject({ recursive: true, symlinks: "copy" });
  expect([...options.gnu.required].sort()).toEqual(["acl", "mode", "times"]);
  expect(options.gnu.reduceDiagnostics).toBe(true);
});

test("naming xattrs requires them; --preserve=all does not; --no-preserve takes back", () => {
  expect(request("cp", "--preserve=xattr a b").options.gnu.required).toEqual(["xattr"]);
  expect(request("cp", "--preserve=all a b").options.gnu.required).not.toContain("xattr");
  expect(request("cp", "-a --no-preserve=ow,times a b").options.preserve).not.toContain("owner");
  expect(request("cp", "--no-preserve=mode a b").options.gnu.defaultMode).toBe(true);
  expect(request("cp", "--no-preserve=mode --preserve=mode a b").options.gnu.defaultMode).toBe(false);
});

test("the last of -i and -n counts in cp, the last of -i, -f and -n in mv", () => {
  expect(request("cp", "-i -n a b").options.onConflict).toBe("skip");
  expect(request("cp", "-n -i a b").options.onConflict).toBe("ask");
  expect(request("cp", "-i -f a b").options).toMatchObject({ onConflict: "ask", gnu: { force: true } });
  expect(request("mv", "-i -n -f a b").options).toMatchObject({ onConflict: "overwrite", gnu: { force: false } });
  expect(request("mv", "-f -i a b").options.onConflict).toBe("ask");
  expect(request("mv", "-fin a b").options.onConflict).toBe("skip");
});

test("--update: all, none, none-fail and older, with -i asking only about older ones", () => {
  expect(request("cp", "--update=all a b").options.onConflict).toBe("overwrite");
  expect(request("cp", "--update=none a b").options.onConflict).toBe("skip");
  expect(request("cp", "--update=none-fail a b").options.onConflict).toBe("fail");
  expect(request("cp", "--update=older a b").options.onConflict).toBe("newer");
  expect(request("cp", "-u a b").options).toMatchObject({ onConflict: "newer", gnu: { onlyOlder: false } });
  expect(request("mv", "-ui a b").options).toMatchObject({ onConflict: "ask", gnu: { onlyOlder: true } });
  expect(request("mv", "-un a b").options.onConflict).toBe("skip");
});

test("backups: the control of -b, --backup, VERSION_CONTROL, and the suffix of -S or the environment", () => {
  const gnu = (line: string, environment: Environment = {}) => request("cp", line, environment).options.gnu;
  expect(gnu("a b").backup).toBe("none");
  expect(gnu("-b a b").backup).toBe("existing");
  expect(gnu("-b a b", { VERSION_CONTROL: "t" }).backup).toBe("numbered");
  expect(gnu("--backup=simple a b", { VERSION_CONTROL: "t" }).backup).toBe("simple");
  expect(gnu("--backup=off a b").backup).toBe("none");
  expect(gnu("--backup=numbered -b a b").backup).toBe("numbered");
  expect(gnu("-S .old a b")).toMatchObject({ backup: "existing", backupSuffix: ".old" as ByteString });
  expect(gnu("-b a b", { SIMPLE_BACKUP_SUFFIX: ".o" }).backupSuffix).toBe(".o" as ByteString);
  expect(gnu("-S a/b a b").backupSuffix).toBe("~" as ByteString);
});

test("mv keeps everything, renames over, and asks about unwritable destinations only of a terminal", () => {
  const { operation, options } = request("mv", "a b");
  expect(operation).toBe("move");
  expect(options).toMatchObject({ recursive: true, symlinks: "copy", specials: true, onConflict: "overwrite" });
  expect(options.preserve).toEqual(expect.arrayContaining(["mode", "owner", "times", "xattr", "acl", "hardlinks", "links", "sparse"]));
  expect(options.gnu).toMatchObject({ inPlace: false, required: [], askIfUnwritable: true });
  expect(request("mv", "-f a b").options.gnu.askIfUnwritable).toBe(false);
});

test("operands: options may stand between them, -- ends options, POSIXLY_CORRECT ends them at the first operand", () => {
  expect(request("cp", "a -r b c").sources).toEqual(["/home/me/a", "/home/me/b"] as ByteString[]);
  expect(request("cp", "-- -a b").sources).toEqual(["/home/me/-a"] as ByteString[]);
  expect(request("cp", "- b").sources).toEqual(["/home/me/-"] as ByteString[]);
  expect(request("cp", "a -r b", { POSIXLY_CORRECT: "" }).sources).toEqual(["/home/me/a", "/home/me/-r"] as ByteString[]);
});

test("targets: -t names a directory, -T an exact name, otherwise the last operand is either", () => {
  expect(request("cp", "-t d a b")).toMatchObject({ destination: "/home/me/d", options: { target: "directory" } });
  expect(request("cp", "a b -td").sources).toHaveLength(2);
  expect(request("cp", "-T a b").options.target).toBe("exact");
  expect(request("cp", "a b").options.target).toBe("auto");
});

test("names reach the request as typed, their paths joined to the working directory and not tidied", () => {
  const { sources, destination, options } = request("cp", "-r ../x//y/ /abs/./z .. .");
  expect(sources).toEqual(["/home/me/../x//y/", "/abs/./z", "/home/me/.."] as ByteString[]);
  expect(destination).toBe("/home/me/." as ByteString);
  expect(options.gnu.names).toEqual({
    program: "cp",
    sources: ["../x//y/", "/abs/./z", ".."] as ByteString[],
    destination: "." as ByteString,
    charset: "utf-8",
  } as never);
  expect(request("cp", "-r --strip-trailing-slashes a/// / b").sources).toEqual(["/home/me/a", "/"] as ByteString[]);
});

test("as administrator nothing is written into existing files, and only the arguments' links are followed", () => {
  expect(request("cp", "--admin a b").options).toMatchObject({ symlinks: "follow-arguments", gnu: { inPlace: false } });
  expect(request("cp", "-rf --adm a b").options).toMatchObject({ symlinks: "copy", gnu: { inPlace: false, force: true } });
  expect(request("cp", "-L --admin a b").options.symlinks).toBe("follow-arguments");
  // What only root could keep is an error when it is lost, as for root.
  expect(request("cp", "-p --admin a b").options.gnu.required).toContain("owner");
  expect(request("mv", "--admin a b")).toMatchObject({ operation: "move", options: { symlinks: "copy" } });
  for (const [options, conflict] of [
    ["--local", "--local"],
    ["--session", "--session"],
    ["--dry-run", "--dry-run"],
    ["--lanes=2", "--lanes"],
    ["--manifest=m", "--manifest"],
    ["--parents", "--parents"],
    ["-r --keep-directory-symlink", "--keep-directory-symlink"],
    ["-rL", "--dereference (-L) and --recursive (-r)"],
    ["-al", "--link (-l)"],
    ["-s", "--symbolic-link (-s)"],
  ]) {
    const { status, stderr } = ours("cp", [...(options ?? "").split(" "), "--admin", "a", "b"], utf8);
    expect([status, stderr]).toEqual([1, expect.stringContaining(`cp: cannot combine --admin with ${conflict}\n`)]);
  }
  expect(ours("mv", ["--exchange", "--admin", "a", "b"], utf8).stderr).toContain("mv: cannot combine --admin with --exchange\n");
});

test("our own options, and that they never make an abbreviation of GNU's ambiguous", () => {
  expect(request("cp", "--limit-rate=1.5M --engine=io-uring --cache=drop --verify --durability=job a b").options).toMatchObject({
    bandwidthLimit: 1572864,
    engine: "io-uring",
    cache: "drop",
    verify: "xxh3",
    durability: "job",
  });
  expect(request("cp", "--pr a b").options.gnu.required).toContain("mode");
  expect(request("cp", "--l a b").options.gnu.make).toBe("hard-link");
  expect(ours("cp", ["--prog", "--lo", "--js", "a", "b"], utf8).command?.settings).toMatchObject({
    progress: "always",
    service: "local",
    json: true,
  });
});
