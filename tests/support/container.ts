// A machine of its own for a test: a real systemd with a real system bus, booted over this system's files, changed in memory only.

import { existsSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { havePrograms, run, runChecked } from "./process.ts";
import { unlessRoot } from "./skip.ts";
import { temporaryDirectory } from "./temporary.ts";

export interface Step {
  readonly status: number;
  /** Standard output and error as they came. */
  readonly output: string;
}

export interface ContainerOptions {
  /** Puts files below the machine's root before it boots. */
  readonly prepare: (root: string) => Promise<void>;
  /** Shell lines run as root when the bus is up; `step NAME COMMAND...` keeps what a command said under its name. */
  readonly script: string;
  readonly timeoutMs?: number;
  /** After the machine has ended. */
  readonly inspect?: (root: string) => Promise<void>;
}

/** Why no machine can be booted here, or null. */
export function whyNoContainer(): string | null {
  const reason = unlessRoot();
  if (reason !== null) return `${reason} to boot a container`;
  if (!/ cgroup2? /.test(readFileSync("/proc/self/mounts", "utf8"))) return "no control groups are mounted here";
  if (!havePrograms("systemd-nspawn")) return "systemd-nspawn is not installed";
  return existsSync("/lib/systemd/system/dbus.socket") ? null : "dbus is not installed";
}

/** Boots, runs the script, powers off. Resolves to the steps by name; throws with the console's end where it did not come to that. */
export async function runInContainer(options: ContainerOptions): Promise<ReadonlyMap<string, Step>> {
  await using directory = await temporaryDirectory("/dev/shm");
  const root = `${directory.path}/root`;
  for (const part of ["upper", "work", "root"]) await mkdir(`${directory.path}/${part}`);
  const layers = `lowerdir=/,upperdir=${directory.path}/upper,workdir=${directory.path}/work`;
  await runChecked(["mount", "-t", "overlay", "-o", layers, "copyd-test", root]);
  await runChecked(["chmod", "755", `${directory.path}/upper`]);
  await mkdir(`${root}/results`);
  await runChecked(["rm", "-f", `${root}/etc/machine-id`]);
  await writeFile(`${root}/etc/systemd/system/copyd-test.service`, unit);
  await writeFile(`${root}/results/script`, `${preamble}${options.script}\n`);
  await options.prepare(root);
  const result = await run(boot(root), { timeoutMs: options.timeoutMs ?? 120_000 });
  const names = existsSync(`${root}/results/names`) ? readFileSync(`${root}/results/names`, "utf8").trim().split("\n") : [];
  if (!existsSync(`${root}/results/done`)) {
    throw new Error(
      `the machine ended (${result.status}) before its script did, after ${names.join(", ")}:\n${result.stdout.slice(-4000)}${result.stderr}`,
    );
  }
  const read = (name: string): Step => ({
    status: Number(readFileSync(`${root}/results/${name}.status`, "utf8")),
    output: readFileSync(`${root}/results/${name}`, "utf8"),
  });
  const steps = new Map(names.map((name) => [name, read(name)]));
  await options.inspect?.(root);
  return steps;
}

function boot(root: string): string[] {
  const quiet = ["--quiet", "--register=no", "--keep-unit", "--console=pipe", "--link-journal=no", "--private-network"];
  // nspawn forbids Landlock by default, which a real machine does not.
  const landlock = "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self";
  return ["systemd-nspawn", ...quiet, landlock, "--boot", `--directory=${root}`, "systemd.unit=copyd-test.service"];
}

const unit = `[Unit]
Requires=dbus.socket
After=dbus.socket basic.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/sh /results/script
`;

const preamble = `
cd /
step() {
  name=$1; shift
  echo "$name" >> /results/names
  "$@" > "/results/$name" 2>&1 < /dev/null
  echo $? > "/results/$name.status"
}
trap 'touch /results/done; sync' EXIT
`;
