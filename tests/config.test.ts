// Settings: where they come from, what wins, and what a wrong one is told.

import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { examineConfig, loadConfig } from "../src/config.ts";
import { memoryBytes } from "../src/config-settings.ts";
import { CopyError } from "../src/errors.ts";
import { temporaryDirectory } from "./support/temporary.ts";

/** Loads with a file of this text; "FILE" in the message stands for its path. */
async function load(
  text: string,
  argv: readonly string[] = [],
  environment: Record<string, string> = {},
): Promise<ReturnType<typeof loadConfig>> {
  await using directory = await temporaryDirectory();
  const path = `${directory.path}/copyd.toml`;
  writeFileSync(path, text);
  try {
    return loadConfig([`--config=${path}`, ...argv], environment);
  } catch (error) {
    if (!(error instanceof CopyError)) throw error;
    throw new CopyError(error.code, error.message.replaceAll(path, "FILE"));
  }
}

async function refusal(text: string, argv: readonly string[] = [], environment: Record<string, string> = {}): Promise<string> {
  try {
    await load(text, argv, environment);
  } catch (error) {
    if (error instanceof CopyError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "accepted";
}

test("with no file, no variable and no flag the standard values hold, frozen", () => {
  const config = loadConfig(["--session"], { HOME: "/nonexistent", XDG_RUNTIME_DIR: "/run/user/1" });
  expect(config.calls.maxSources).toBe(16_384);
  expect(config.jobs.lingerMs).toBe(60_000);
  expect(config.files).toEqual([]);
  expect(config.bus).toBe("session");
  expect(config.stateDirectory).toBe("/nonexistent/.local/state/copyd");
  expect(config.runtimeDirectory).toBe("/run/user/1/copyd");
  expect(Object.isFrozen(config)).toBe(true);
  expect(Object.isFrozen(config.jobs)).toBe(true);
});

test("systemd's directories are taken, the first of several", async () => {
  const config = await load("", [], { STATE_DIRECTORY: "/var/lib/a:/var/lib/b", RUNTIME_DIRECTORY: "/run/c" });
  expect([config.bus, config.stateDirectory, config.runtimeDirectory]).toEqual(["system", "/var/lib/a", "/run/c"]);
});

test("flags win over the environment, the environment over the file, the file over the standard", async () => {
  const text = "[jobs]\nmax-running = 5\nmax-running-per-user = 5\nmax-workers-per-user = 5\n";
  const environment = { COPYD_JOBS_MAX_RUNNING_PER_USER: "6", COPYD_JOBS_MAX_RUNNING: "6", COPYD_UNRELATED_X: "1" };
  const { jobs, service } = await load(text, ["--set", "jobs.max-running=7", "--log-level", "debug"], environment);
  expect([jobs.maxRunning, jobs.maxRunningPerUser, jobs.maxWorkersPerUser, jobs.maxJobsPerUser]).toEqual([7, 6, 5, 1000]);
  expect(service.logLevel).toBe("debug");
});

test("an absent file is fine unless it was named", () => {
  expect(() => loadConfig(["--config", "/nonexistent/copyd.toml"], {})).toThrow("/nonexistent/copyd.toml cannot be read (ENOENT)");
  expect(() => loadConfig([], { COPYD_CONFIG: "/nonexistent/copyd.toml" })).toThrow("cannot be read (ENOENT)");
});

test("drop-ins win over the file, in the order of their names; other files beside them are not read", async () => {
  await using directory = await temporaryDirectory();
  const path = `${directory.path}/copyd.toml`;
  mkdirSync(`${path}.d`);
  writeFileSync(path, "[jobs]\nmax-running = 2\nmax-running-now = 1\n");
  writeFileSync(`${path}.d/10-first.toml`, "[jobs]\nmax-running = 3\nlinger-ms = 5\n");
  writeFileSync(`${path}.d/20-second.toml`, "[jobs]\n\nmax-running = 5\n");
  for (const name of ["30.toml.bak", ".31.toml", "README"]) writeFileSync(`${path}.d/${name}`, "[nonsense");
  const config = loadConfig([`--config=${path}`], {});
  expect([config.jobs.maxRunning, config.jobs.maxRunningNow, config.jobs.lingerMs]).toEqual([5, 1, 5]);
  expect(config.files).toEqual([path, `${path}.d/10-first.toml`, `${path}.d/20-second.toml`]);
  const { settings, problems } = examineConfig([`--config=${path}`], {});
  expect(problems).toEqual([]);
  expect(
    settings.filter(({ section, origin }) => section === "jobs" && origin !== null).map(({ key, value, origin }) => [key, value, origin]),
  ).toEqual([
    ["max-running", 5, `${path}.d/20-second.toml:3`],
    ["max-running-now", 1, `${path}:3`],
    ["linger-ms", 5, `${path}.d/10-first.toml:3`],
  ]);
  writeFileSync(`${path}.d/20-second.toml`, "[jobs]\n\nmax-running = 0\n");
  expect(() => loadConfig([`--config=${path}`], {})).toThrow(`${path}.d/20-second.toml:3: jobs.max-running = 0`);
});

test("an examination names everything that is wrong", async () => {
  await using directory = await temporaryDirectory();
  const path = `${directory.path}/copyd.toml`;
  writeFileSync(path, "[jobs]\nmax-running = 0\n\n[job]\nx = 1\n\n[calls]\nmax-wait = 3\nmax-waits = 3\n");
  const { problems } = examineConfig([`--config=${path}`], {});
  expect(problems.map((problem) => problem.slice(path.length).split(" ")[0])).toEqual([":2:", ":4:", ":8:"]);
});

test("memory is a share of the machine's, or bytes with or without a unit, and never less than a worker needs", async () => {
  const gibibyte = 2 ** 30;
  for (const [text, bytes] of [
    ['"60%"', 0.6 * 10 * gibibyte],
    ['"1%"', 128 * 2 ** 20],
    ['"2G"', 2 * gibibyte],
    ["2147483648", 2 * gibibyte],
    ['"512M"', gibibyte / 2],
    ["0", 0],
  ] as const) {
    const { limits } = await load(`[limits]\nworker-memory = ${text}\n`);
    expect(memoryBytes(limits.workerMemory, 10 * gibibyte)).toBe(bytes);
  }
  const { limits } = await load("", ["--set", "limits.worker-processes=64"], { COPYD_LIMITS_WORKER_MEMORY: "50%" });
  expect(limits).toEqual({ workerMemory: "50%", workerProcesses: 64 });
});

const refused: [string, string, string[], Record<string, string>, string][] = [
  [
    "a value out of range",
    "[jobs]\nmax-running = 0",
    [],
    {},
    "bad-config: FILE:2: jobs.max-running = 0: Too small: expected number to be >=1; correct it, or leave it out for 4",
  ],
  [
    "a value of another type",
    '[jobs]\nmax-running = "many"',
    [],
    {},
    'jobs.max-running = "many": Invalid input: expected number, received string',
  ],
  ["a key that is none", "[jobs]\nmax-runing = 1", [], {}, "FILE:2: jobs.max-runing is not a setting; [jobs] has max-running, "],
  [
    "a section that is none",
    "[job]\nx = 1",
    [],
    {},
    "FILE:1: there is no section [job]; there are service, calls, jobs, limits, policy, history",
  ],
  ["a setting outside a section", "max-running = 1", [], {}, 'FILE:1: "max-running" stands outside a section'],
  ["a file that is not TOML", "[jobs\n", [], {}, "FILE:1: not TOML: "],
  [
    "a mistake further down",
    "[jobs]\nmax-running = 2\n\n[calls]\nmax-waits =\nmax-sources = 1\n",
    [],
    {},
    "FILE:5: not TOML: Missing value after '='",
  ],
  ...["-1", "9e99", "1.5", '"20M"'].map((value): (typeof refused)[number] => [
    `${value} for a rate`,
    `[jobs]\nbandwidth-limit = ${value}`,
    [],
    {},
    "bytes a second are a whole number, as 20000000; 0 is no limit; correct it, or leave it out for 0",
  ]),
  ...["-1", "1000", "1.5", '"100M"', '"101%"', '"0%"', '"2GB"', '""', "true"].map((value): (typeof refused)[number] => [
    `${value} for memory`,
    `[limits]\nworker-memory = ${value}`,
    [],
    {},
    'a share of the memory ("60%"), or bytes ("2G", 2147483648), 128M at least; 0 is no limit; correct it, or leave it out for "60%"',
  ]),
  ["too few processes", "[limits]\nworker-processes = 63", [], {}, "less than 64 is not enough for one worker; 0 is no limit"],
  ["a number beyond all numbers", "[jobs]\nmax-running = 99999999999999999999", [], {}, "FILE:"],
  ["a date", "[jobs]\n\nmax-running = 2024-01-01", [], {}, "FILE:3: jobs.max-running = 2024-01-01: "],
  ["a key in the dotted form", "jobs.max-running = 0", [], {}, "FILE:1: jobs.max-running = 0"],
  ["a prototype key", "[__proto__]\nx = 1", [], {}, "there is no section [__proto__]"],
  ["an inherited name", "[jobs]\nto-string = 1", [], {}, "jobs.to-string is not a setting"],
  ["a wrong variable", "", [], { COPYD_JOBS_MAX_RUNNING: "x" }, 'environment: jobs.max-running = "x"'],
  ["a wrong flag value", "", ["--set", "jobs.max-running=-1"], {}, "command line: jobs.max-running = -1"],
  ["a --set without value", "", ["--set", "jobs.max-running"], {}, "usage: copyd daemon: --set takes SECTION.KEY=VALUE"],
  ["an unknown flag", "", ["--frobnicate"], {}, "usage: copyd daemon: Unknown option '--frobnicate'"],
  ["an unknown level", "", ["--log-level=loud"], {}, 'command line: service.log-level = "loud"'],
  ["a relative directory", "", [], { STATE_DIRECTORY: "state" }, 'environment: STATE_DIRECTORY is "state": it must be an absolute path'],
];

for (const [what, text, argv, environment, message] of refused) {
  test(`${what} is refused with its origin, its key and a remedy`, async () => {
    expect(await refusal(text, argv, environment)).toContain(message);
  });
}
