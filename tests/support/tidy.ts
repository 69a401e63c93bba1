// The house rules as a checker: which room may import which, and what no file may be, be named or contain.

export interface SourceFile {
  /** From the repository's root, with slashes. */
  readonly path: string;
  readonly text: string;
}

/** Lines beyond which a file is asked about, and beyond which it fails. */
export const wishedLines = 300;
export const maxLines = 420;
/** Files that may be longer, each with its reason. */
const longFiles: Readonly<Record<string, string>> = {
  // "src/example.ts": "one table that reads best in one piece",
};

const leaves = [
  "src/assert.ts",
  "src/bytes.ts",
  "src/errno.ts",
  "src/errors.ts",
  "src/log.ts",
  "src/mountinfo.ts",
  "src/mount-table.ts",
  "src/policy.ts",
  "src/policy-groups.ts",
  "src/policy-schema.ts",
  "src/quote.ts",
  "src/request.ts",
  "src/request-schema.ts",
  "src/config.ts",
  "src/config-file.ts",
  "src/config-settings.ts",
  "src/version.ts",
];
/** The leaves that know nothing of settings or of whom to tell, and cost nothing to load. */
const quietLeaves = leaves.filter(
  (leaf) => leaf !== "src/log.ts" && !leaf.startsWith("src/config") && leaf !== "src/request-schema.ts" && !leaf.startsWith("src/policy-"),
);

/**
 * The import diagram of ARCHITECTURE.md: the first row whose prefix fits a file says what it may import, by prefix.
 * When a row objects to your import, the design is wrong, not the row; change it only together with ARCHITECTURE.md.
 */
const diagram: readonly { readonly room: string; readonly may: readonly string[] }[] = [
  { room: "src/main.ts", may: ["src/cli/main.ts", "src/daemon/daemon.ts", "src/worker/start.ts"] },
  { room: "src/ffi/", may: ["src/ffi/", "src/assert.ts", "src/bytes.ts", "src/errno.ts"] },
  { room: "src/tree/", may: ["src/tree/", "src/ffi/", ...quietLeaves] },
  { room: "src/engines/", may: ["src/engines/", "src/ffi/", ...quietLeaves] },
  { room: "src/worker/protocol-schema.ts", may: ["src/worker/protocol.ts", ...leaves] },
  { room: "src/worker/protocol.ts", may: ["src/worker/protocol-schema.ts", ...quietLeaves] },
  { room: "src/worker/", may: ["src/worker/", "src/tree/", "src/engines/", "src/ffi/", ...leaves] },
  { room: "src/jobs/", may: ["src/jobs/", "src/worker/pool.ts", "src/worker/protocol.ts", "src/worker/protocol-schema.ts", ...leaves] },
  { room: "src/dbus/client", may: ["src/dbus/", "src/jobs/api.ts", "src/worker/protocol.ts", ...leaves] },
  { room: "src/dbus/", may: ["src/dbus/", "src/jobs/", "src/worker/protocol.ts", ...leaves] },
  // systemd's watchdog wants a datagram from the main process, which only C can send; the file binds three calls and nothing else.
  // So does the journal, for lines with fields.
  { room: "src/daemon/journal.ts", may: ["src/ffi/unix-datagram.ts", ...leaves] },
  { room: "src/daemon/watchdog.ts", may: ["src/ffi/unix-datagram.ts", ...leaves] },
  { room: "src/daemon/spare-memory.ts", may: ["src/code-releaser.ts", "src/jobs/", ...leaves] },
  { room: "src/daemon/", may: ["src/daemon/", "src/dbus/", "src/jobs/", "src/worker/pool.ts", ...leaves] },
  // The doctor asks the kernel what it can do, and only the worker's side knows how to ask.
  { room: "src/cli/doctor", may: ["src/cli/", "src/dbus/", "src/jobs/", "src/worker/", "src/engines/", "src/ffi/", ...leaves] },
  // Starts a worker that checks a manifest, and reads what it reports.
  {
    room: "src/cli/verify-command.ts",
    may: ["src/cli/", "src/worker/spawn.ts", "src/worker/verify-manifest.ts", ...leaves],
  },
  // Starts a worker before it knows the job.
  { room: "src/cli/main.ts", may: ["src/cli/", "src/worker/ahead.ts", ...leaves] },
  {
    room: "src/cli/copy-command.ts",
    may: ["src/cli/", "src/code-releaser.ts", "src/jobs/api.ts", ...leaves],
  },
  {
    room: "src/cli/",
    may: ["src/cli/", "src/dbus/client", "src/dbus/contract", "src/jobs/", "src/worker/pool.ts", "src/worker/protocol.ts", ...leaves],
  },
  // Each process lets go of its own program's code, which only C can say: two calls and nothing else.
  { room: "src/code-releaser.ts", may: ["src/ffi/program-pages.ts"] },
  { room: "src/version.ts", may: ["package.json"] },
  { room: "src/", may: leaves },
];

/** Rooms that run with privilege or start often: no chain of static imports may reach the folders that touch files. */
const controlPlane = ["src/main.ts", "src/cli/", "src/daemon/", "src/dbus/", "src/jobs/"];
const dataPlane = ["src/ffi/", "src/tree/", "src/engines/"];

/**
 * Node's modules that take a millisecond or more to load, in each process and each thread, and where every copy starts and does without:
 * who needs one now and then asks process.getBuiltinModule for it.
 */
const slowModules: readonly { readonly start: string; readonly without: readonly string[] }[] = [
  { start: "src/cli/main.ts", without: ["node:fs", "node:os", "node:tty"] },
  { start: "src/cli/copy-command.ts", without: ["node:tty"] },
  { start: "src/cli/embedded-runner.ts", without: ["node:tty"] },
  { start: "src/worker/start.ts", without: ["node:fs", "node:os", "node:tty"] },
  { start: "src/worker/worker.ts", without: ["node:fs", "node:os", "node:tty"] },
  { start: "src/worker/lone-file.ts", without: ["node:fs", "node:os", "node:tty"] },
  { start: "src/worker/lane.ts", without: ["node:fs", "node:os", "node:tty"] },
];

export interface Import {
  readonly specifier: string;
  readonly kind: "static" | "type" | "dynamic";
}

/** What a file imports, comments left out. */
export function importsOf(text: string): Import[] {
  const code = text.replace(/^\s*(\/\/|\*|\/\*).*$/gm, "");
  const imports: Import[] = [];
  for (const match of code.matchAll(/^\s*(?:import|export)\s+(type\s)?(?:[^;"']*?\sfrom\s+)?["']([^"']+)["']/gm)) {
    imports.push({ specifier: match[2] ?? "", kind: match[1] === undefined ? "static" : "type" });
  }
  for (const match of code.matchAll(/\bimport\(\s*["']([^"']+)["']\s*\)/g)) imports.push({ specifier: match[1] ?? "", kind: "dynamic" });
  return imports;
}

/** Every breach of the house rules, as "path: what is wrong". */
export function tidyProblems(files: readonly SourceFile[]): string[] {
  const problems: string[] = [];
  for (const file of files) {
    const report = (what: string): void => void problems.push(`${file.path}: ${what}`);
    checkWords(file, report);
    if (!file.path.endsWith(".ts")) continue;
    checkName(file, report);
    checkShape(file, report);
    if (file.path.startsWith("src/")) checkImports(file, report);
  }
  return [...problems, ...reachProblems(files)];
}

/** Files past the wished length: not wrong yet. */
export function longishFiles(files: readonly SourceFile[]): string[] {
  return files.filter((file) => isCode(file) && lineCount(file) > wishedLines).map((file) => `${file.path}: ${lineCount(file)} lines`);
}

type Report = (what: string) => void;

function checkName({ path }: SourceFile, report: Report): void {
  const name = path.slice(path.lastIndexOf("/") + 1);
  const stem = name.replace(/(\.long)?(\.test|\.d)?\.ts$/, "");
  if (stem === "index") report("an index.ts hides where things are: import the file itself");
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(stem)) report("file names are kebab-case");
  if (/(^|-)(utils?|helpers?|manager|misc|common)$/.test(stem)) report("name the file after its reason, not after its miscellany");
}

function checkShape(file: SourceFile, report: Report): void {
  const lines = file.text.split("\n");
  const first = lines[0]?.startsWith("#!") ? lines[1] : lines[0];
  if (!/^(\/\/ \S|\/\*\* ?\S)/.test(first ?? "")) report("the first line must be a comment that says the file's reason");
  const allowed = Object.hasOwn(longFiles, file.path);
  if (isCode(file) && lineCount(file) > maxLines && !allowed)
    report(`${lineCount(file)} lines: two reasons, or too long for one (${maxLines})`);
  const skipping = /\b(test|it|describe)\.(skip|skipIf|todo|todoIf|if)\(/.test(file.text);
  if (skipping && file.path !== "tests/support/skip.ts")
    report("a skip says why: use testUnless or describeUnless of tests/support/skip.ts");
}

// Put together at run time, so that this file does not contain what it forbids.
const leftoverMarks = new RegExp(`\\b(${["TO" + "DO", "FIX" + "ME", "X" + "XX"].join("|")})\\b`);
const registryHosts = new RegExp(
  ["npm" + "js\\.(org|com)", "yarn" + "pkg\\.com", "deb" + "\\.debian\\.org", "npm" + "mirror"].join("|"),
  "i",
);
const machinePaths = new RegExp(`(^|[\\s"'\`=:(])/${"wo" + "rk"}/|/tmp/${"bash" + "_jobs"}`);

function checkWords({ path, text }: SourceFile, report: Report): void {
  // A patch shows the lines of others that it removes.
  if (!path.startsWith("patches/") && leftoverMarks.test(text)) report("finish it or file an issue: no marks of unfinished work");
  if (registryHosts.test(text)) report("names a package registry's host");
  if (machinePaths.test(text)) report("names a path of one developer's machine");
  const isLock = /(^|\/)(bun\.lock|package-lock\.json)$/.test(path);
  // Whom to give money to ("funding") is a host too, but nothing is fetched from there.
  if (isLock && /https?:\/\//.test(text.replace(/"url": "[^"]*"/g, ""))) {
    report("a lock file names no host: installs go where the user's npm is told to go");
  }
}

function checkImports(file: SourceFile, report: Report): void {
  const row = diagram.find(({ room }) => file.path.startsWith(room));
  if (row === undefined) return;
  for (const { specifier, kind } of importsOf(file.text)) {
    const target = resolve(file.path, specifier);
    if (target === null) continue;
    if (!target.endsWith(".ts") && !target.endsWith(".json")) report(`imports ${specifier} without its .ts`);
    if (!row.may.some((prefix) => target.startsWith(prefix))) report(`may not import ${target}: see the diagram in tests/support/tidy.ts`);
    if (file.path === "src/main.ts" && kind !== "dynamic") report(`imports ${target} before it knows the role: import it dynamically`);
  }
}

/** Chains of static imports from the control plane into the data plane: FFI is loaded in the worker only. */
function reachProblems(files: readonly SourceFile[]): string[] {
  const graph = new Map<string, readonly string[]>();
  for (const { path, text } of files) {
    const loaded = importsOf(text).filter(({ kind }) => kind === "static");
    graph.set(
      path,
      loaded.map(({ specifier }) => resolve(path, specifier) ?? specifier),
    );
  }
  const problems: string[] = [];
  for (const start of graph.keys()) {
    if (!controlPlane.some((room) => start.startsWith(room)) || start.startsWith("src/cli/doctor")) continue;
    const chain = chainInto(graph, start, dataPlane);
    if (chain !== null) problems.push(`${start}: loads FFI through ${chain.join(" -> ")}`);
  }
  for (const { start, without } of slowModules) {
    const chain = chainInto(graph, start, without);
    if (chain !== null) problems.push(`${start}: starts every copy, and loads what is slow through ${chain.join(" -> ")}`);
  }
  return problems;
}

function chainInto(graph: ReadonlyMap<string, readonly string[]>, start: string, targets: readonly string[]): readonly string[] | null {
  const seen = new Set([start]);
  const queue: (readonly string[])[] = [[start]];
  for (let chain = queue.shift(); chain !== undefined; chain = queue.shift()) {
    const last = chain.at(-1) ?? start;
    if (targets.some((target) => last.startsWith(target))) return chain;
    for (const next of graph.get(last) ?? []) {
      if (seen.has(next)) continue;
      seen.add(next);
      queue.push([...chain, next]);
    }
  }
  return null;
}

/** The path a relative specifier means, or null for a package. */
function resolve(from: string, specifier: string): string | null {
  if (!specifier.startsWith(".")) return null;
  const parts = from.split("/").slice(0, -1);
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

function isCode({ path, text }: SourceFile): boolean {
  return path.endsWith(".ts") && !/^\/\/.*\bGenerated by\b/.test(text);
}

function lineCount({ text }: SourceFile): number {
  return text.split("\n").length - 1;
}
