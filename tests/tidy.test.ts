// The house rules hold for every file of the repository, and the checker that says so can tell right from wrong.

import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { importsOf, longishFiles, maxLines, type SourceFile, tidyProblems } from "./support/tidy.ts";

const root = join(import.meta.dir, "..");

test("every file of the repository keeps the house rules", () => {
  const files = repositoryFiles();
  expect(files.length).toBeGreaterThan(20);
  const longish = longishFiles(files);
  if (longish.length > 0) console.warn(`Longer than wished:\n  ${longish.join("\n  ")}`);
  expect(tidyProblems(files)).toEqual([]);
});

const header = "// A reason.\n";
const breaches: [string, SourceFile, string][] = [
  ["a room that imports upwards", file("src/ffi/x.ts", 'import { y } from "../jobs/y.ts";'), "may not import src/jobs/y.ts"],
  ["a type from above", file("src/tree/x.ts", 'import type { Y } from "../worker/y.ts";'), "may not import src/worker/y.ts"],
  [
    "an import over several lines",
    file("src/engines/x.ts", 'import {\n  a,\n  b,\n} from "../tree/walk.ts";'),
    "may not import src/tree/walk.ts",
  ],
  ["a dynamic import upwards", file("src/dbus/x.ts", 'await import("../daemon/daemon.ts");'), "may not import src/daemon/daemon.ts"],
  ["a leaf that logs for ffi", file("src/ffi/x.ts", 'import { log } from "../log.ts";'), "may not import src/log.ts"],
  ["a main that loads before it knows", file("src/main.ts", 'import { main } from "./cli/main.ts";'), "import it dynamically"],
  ["an import without extension", file("src/jobs/x.ts", 'import { y } from "./y";'), "without its .ts"],
  ["no reason in the first line", { path: "src/x.ts", text: "export const x = 1;\n" }, "first line"],
  ["too many lines", file("src/x.ts", "\n".repeat(maxLines + 1)), "lines"],
  ["a file named after nothing", file("src/cli/string-utils.ts", ""), "name the file after its reason"],
  ["an index", file("src/cli/index.ts", ""), "index.ts"],
  ["a name in camel case", file("src/cli/doIt.ts", ""), "kebab-case"],
  ["unfinished work", file("src/x.ts", `// TO${"DO"}: later`), "unfinished"],
  ["a registry's host", { path: "README.md", text: `See https://registry.npm${"js"}.org` }, "registry"],
  ["a lock file with hosts", { path: "bun.lock", text: '"a": ["a@1", "https://example.org/a.tgz"]' }, "names no host"],
  ["a path of a machine", { path: "README.md", text: `cd /wo${"rk"}/main` }, "path of one developer's machine"],
  ["a skip without a reason", file("tests/x.test.ts", `test.${"skip"}("x", () => {});`), "a skip says why"],
];

for (const [what, bad, expected] of breaches) {
  test(`the checker finds ${what}`, () => {
    const problems = tidyProblems([bad]);
    expect(problems.join("\n")).toContain(expected);
    expect(problems[0]).toStartWith(bad.path);
  });
}

test("the checker finds a slow module that every copy would load, and none where it is only a type's or loaded later", () => {
  const lane = file("src/worker/lane.ts", 'import { stat } from "../ffi/stat.ts";');
  const loading = (text: string): string[] => tidyProblems([lane, file("src/ffi/stat.ts", text)]);
  expect(loading('import { openSync } from "node:fs";')).toEqual([
    "src/worker/lane.ts: starts every copy, and loads what is slow through src/worker/lane.ts -> src/ffi/stat.ts -> node:fs",
  ]);
  expect(loading('import type { Stats } from "node:fs";\nconst { openSync } = process.getBuiltinModule("node:fs");')).toEqual([]);
});

test("the checker finds FFI loaded by the service through a chain of imports", () => {
  const chain = [
    file("src/jobs/queue.ts", 'import { pool } from "../worker/pool.ts";'),
    file("src/worker/pool.ts", 'import { probe } from "./probe.ts";'),
    file("src/worker/probe.ts", 'import { libc } from "../ffi/libc.ts";'),
    file("src/ffi/libc.ts", ""),
  ];
  expect(tidyProblems(chain)).toEqual([
    "src/jobs/queue.ts: loads FFI through src/jobs/queue.ts -> src/worker/pool.ts -> src/worker/probe.ts -> src/ffi/libc.ts",
  ]);
});

test("the checker lets types and dynamic imports pass where only loading is forbidden", () => {
  const files = [
    file("src/main.ts", 'const { main } = await import("./worker/start.ts");'),
    file("src/worker/start.ts", 'import { libc } from "../ffi/libc.ts";'),
    file("src/ffi/libc.ts", 'import { assert } from "../assert.ts";'),
    file("src/worker/pool.ts", 'import type { Libc } from "../ffi/libc.ts";'),
    file("src/jobs/queue.ts", 'import { pool } from "../worker/pool.ts";'),
  ];
  expect(tidyProblems(files)).toEqual([]);
});

test("imports in comments are not imports", () => {
  expect(importsOf('// import { a } from "./a.ts";\n/** import("./b.ts") */\n * from "./c.ts"\n')).toEqual([]);
});

function file(path: string, body: string): SourceFile {
  return { path, text: `${header}${body}\n` };
}

/** Every file that git would keep, without asking git: a source archive has none. */
function repositoryFiles(): SourceFile[] {
  const ignored = new Set([".git", "node_modules", "dist", "coverage"]);
  const files: SourceFile[] = [];
  const directories = [root];
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      if (ignored.has(entry.name) || entry.name.endsWith(".log")) continue;
      const path = join(directory, entry.name);
      if (entry.isDirectory()) directories.push(path);
      else if (entry.isFile()) files.push({ path: relative(root, path), text: readFileSync(path, "utf8") });
    }
  }
  return files;
}
