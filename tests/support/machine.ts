// A real systemd: this machine's own files booted in systemd-nspawn, over an overlay that forgets what is written.

import { appendFileSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { havePrograms, type RunOptions, type RunResult, run, runChecked } from "./process.ts";
import { unlessRoot } from "./skip.ts";
import { temporaryDirectory } from "./temporary.ts";
import { asUser, type Identity } from "./users.ts";

export interface Machine extends AsyncDisposable {
  /** Its root directory as seen from outside. */
  readonly root: string;
  /** Runs a command inside, as root. */
  run(command: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** As `run`, but a status other than 0 throws. */
  runChecked(command: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** Runs a command inside as somebody else. */
  runAs(identity: Identity, command: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** Resolves when it has gone down by itself, as after logind's PowerOff. */
  hasGoneDown(): Promise<void>;
  /** Kills all that runs in it at once, as a power cut does, and boots it again over the same files. */
  reboot(): Promise<void>;
}

export interface MachineUser extends Identity {
  readonly name: string;
}

const bootTimeoutMs = 40_000;
const target = "copyd-test.target";
/** What this machine starts by itself and a test has no use for. */
const masked = /\.(timer|mount|automount|swap)$|^(postgresql|systemd-timesyncd|systemd-networkd|e2scrub_reap|cron|ssh|docker)/;

/** Why no machine can be booted here, or null. */
export function whyNoMachine(): string | null {
  const missing = ["systemd-nspawn", "nsenter", "busctl", "make"].find((program) => !havePrograms(program));
  if (missing !== undefined) return `${missing} is not installed`;
  if (unlessRoot() !== null) return unlessRoot();
  if (!/ cgroup2? /.test(readFileSync("/proc/self/mounts", "utf8"))) return "no control groups are mounted here";
  const mount = Bun.spawnSync(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], { stdout: "ignore", stderr: "ignore" });
  return mount.success ? null : "this container may not mount";
}

/** Boots a machine in which these users exist; `install` puts files into its root before. */
export async function bootMachine(users: readonly MachineUser[], install: (root: string) => Promise<void>): Promise<Machine> {
  const directory = await temporaryDirectory();
  const root = join(directory.path, "root");
  const memory = join(directory.path, "memory");
  for (const path of [root, memory]) mkdirSync(path);
  await runChecked(["mount", "-t", "tmpfs", "-o", "mode=755,size=2g", "copyd-test", memory]);
  for (const name of ["upper", "work"]) mkdirSync(join(memory, name));
  await runChecked(["mount", "-t", "overlay", "-o", `lowerdir=/,upperdir=${memory}/upper,workdir=${memory}/work`, "copyd-test", root]);
  prepare(root, users);
  await install(root);
  const command = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe", "--link-journal=no"];
  const place = [`--directory=${root}`, `--machine=copyd-test-${process.pid}`, "--resolv-conf=off", "--timezone=off", "--private-network"];
  // nspawn forbids Landlock by default, which a real machine does not.
  const landlock = "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self";
  const boot = async (): Promise<Boot> => {
    // It ends with this process, however that ends.
    const nspawn = Bun.spawn(["setpriv", "--pdeathsig=KILL", "--", ...command, ...place, landlock, `systemd.unit=${target}`], {
      stdin: "ignore",
      stdout: Bun.file(join(directory.path, "console")),
      stderr: Bun.file(join(directory.path, "errors")),
    });
    const deadlineMs = performance.now() + bootTimeoutMs;
    for (;;) {
      const leader = nspawn.exitCode === null ? childOf(nspawn.pid) : undefined;
      if (leader !== undefined && (await run(inside(leader, ["systemctl", "is-active", "--quiet", target]))).status === 0)
        return { nspawn, leader };
      if (nspawn.exitCode === null && performance.now() < deadlineMs) {
        await Bun.sleep(50);
        continue;
      }
      const said = ["console", "errors"].map((name) => readFileSync(join(directory.path, name), "utf8")).join("");
      await halt({ nspawn, leader });
      throw new Error(`the machine did not boot: ${said.slice(-4096)}`);
    }
  };
  const dispose = async (): Promise<void> => {
    await directory[Symbol.asyncDispose]();
  };
  const bootFirst = async (): Promise<Boot> => {
    try {
      return await boot();
    } catch (error) {
      await dispose();
      throw error;
    }
  };
  let current = await bootFirst();
  return {
    root,
    run: (words, options) => run(inside(current.leader, words), options),
    runChecked: (words, options) => runChecked(inside(current.leader, words), options),
    runAs: (identity, words, options) => run(inside(current.leader, asUser(identity, words)), options),
    hasGoneDown: async () => void (await current.nspawn.exited),
    reboot: async () => {
      await halt(current);
      current = await boot();
    },
    [Symbol.asyncDispose]: async () => {
      await halt(current);
      await dispose();
    },
  };
}

interface Boot {
  readonly nspawn: Bun.Subprocess;
  /** The machine's first process. */
  readonly leader: number;
}

async function halt({ nspawn, leader }: { readonly nspawn: Bun.Subprocess; readonly leader: number | undefined }): Promise<void> {
  // The first process of a process namespace takes all others with it.
  if (leader !== undefined && nspawn.exitCode === null) process.kill(leader, "SIGKILL");
  await Promise.race([nspawn.exited, Bun.sleep(5_000)]);
  nspawn.kill("SIGKILL");
  await nspawn.exited;
}

function inside(leader: number, words: readonly string[]): string[] {
  return [
    "nsenter",
    `--target=${leader}`,
    "-m",
    "-u",
    "-i",
    "-n",
    "-p",
    // Where this test itself runs in a chroot, the mount namespace's root is not the machine's.
    "--root",
    "--wd",
    ...words,
  ];
}

function prepare(root: string, users: readonly MachineUser[]): void {
  const units = join(root, "etc/systemd/system");
  writeFileSync(join(units, target), "[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=dbus.socket\nAfter=dbus.socket\n");
  for (const folder of [
    units,
    ...readdirSync(units)
      .filter((name) => name.endsWith(".wants"))
      .map((name) => join(units, name)),
  ]) {
    for (const name of readdirSync(folder)) if (masked.test(name)) mask(units, name);
  }
  for (const name of ["apt-daily.timer", "systemd-tmpfiles-clean.timer", "systemd-firstboot.service"]) mask(units, name);
  mkdirSync(join(root, "etc/systemd/journald.conf.d"), { recursive: true });
  writeFileSync(join(root, "etc/systemd/journald.conf.d/copyd-test.conf"), "[Journal]\nStorage=volatile\nRateLimitBurst=0\n");
  for (const { name, uid, gid, groups } of users) {
    appendFileSync(join(root, "etc/passwd"), `${name}:x:${uid}:${gid}::/home/${name}:/bin/sh\n`);
    appendFileSync(join(root, "etc/group"), `${name}:x:${gid}:\n`);
    for (const group of groups ?? []) if (group !== gid) appendFileSync(join(root, "etc/group"), `copydtest${group}:x:${group}:${name}\n`);
  }
}

/** For this boot: a unit that is masked is not started, whoever wants it. */
function mask(units: string, name: string): void {
  try {
    symlinkSync("/dev/null", join(units, name));
  } catch (error) {
    // It lies here itself, and what wants it is in another folder: leave it.
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

/** The process that systemd-nspawn started as the machine's first. */
function childOf(parent: number): number | undefined {
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "latin1");
      const [, ppid] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (Number(ppid) === parent && readFileSync(`/proc/${name}/comm`, "latin1").startsWith("systemd")) return Number(name);
    } catch {
      // It ended meanwhile.
    }
  }
  return undefined;
}
