// Builds dist/copyd: one binary with Bun inside, every role, and nothing read from the folder it is started in.

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

const root = join(import.meta.dir, "..");
/** `bun scripts/build.ts [OUTFILE [ENTRY...]]` */
const [outfile = "dist/copyd", ...entries] = process.argv.slice(2);

/** A thread's file is an entry point of its own: `new Worker("./lane.ts")` finds it in the binary by this name. */
const ownEntries = ["src/main.ts", "src/worker/lane.ts"].map((path) => join(root, path)).filter((path) => existsSync(path));

/**
 * What dbus-next wants only optionally: X11's idea of the session bus, and descriptors over D-Bus. They are compiled in as
 * packages that fail when required. Marked external instead, the binary would look for them at run time in node_modules of
 * the folder that it happens to be started in, and run what it finds there.
 */
const absentPackages: Bun.BunPlugin = {
  name: "absent packages",
  setup(build) {
    build.onResolve({ filter: /^(x11|usocket)$/ }, ({ path }) => ({ path, namespace: "absent" }));
    build.onLoad({ filter: /.*/, namespace: "absent" }, ({ path }) => ({
      contents: `throw new Error(${JSON.stringify(`${path} is not part of copyd`)});`,
      loader: "js",
    }));
  },
};

/** What dbus-next loads for runtimes without BigInt, and never calls here; every command would load it. */
const needlessPackages: Bun.BunPlugin = {
  name: "needless packages",
  setup(build) {
    build.onResolve({ filter: /^jsbi$/ }, ({ path }) => ({ path, namespace: "needless" }));
    build.onLoad({ filter: /.*/, namespace: "needless" }, () => ({ contents: "module.exports = null;", loader: "js" }));
  },
};

const result = await Bun.build({
  entrypoints: entries.length > 0 ? entries : ownEntries,
  plugins: [absentPackages, needlessPackages],
  // Each role loads its own parts: in one piece, a copy of one small file took 10 ms and 20 MB more (bench/start.md).
  splitting: true,
  minify: true,
  bytecode: true,
  format: "esm",
  compile: {
    outfile: resolve(root, outfile),
    autoloadDotenv: false,
    autoloadBunfig: false,
    autoloadTsconfig: false,
    autoloadPackageJson: false,
  },
});
for (const message of result.logs) console.error(message);
if (!result.success) process.exit(1);
