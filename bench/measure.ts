// One run of one tool: seconds on the clock, seconds of processor, and what the rest of the machine did meanwhile.

import { readFileSync } from "node:fs";
import type { Programs, Tool } from "./cells.ts";
import { evict, type Site } from "./places.ts";
import { type MemoryPeak, watchMemory } from "./process-memory.ts";
import type { BenchService } from "./service.ts";

export interface Run {
  /** Of one command, where a run is several. */
  readonly seconds: number;
  readonly userSeconds: number;
  readonly systemSeconds: number;
  /** What the hypervisor kept from us, all processors together. */
  readonly stealSeconds: number;
  /** Processor time of everything else: other programs, and kernel threads that write for this one. */
  readonly othersSeconds: number;
}

export type RunOutcome =
  | { readonly ok: true; readonly run: Run; readonly memory: MemoryPeak | null }
  | { readonly ok: false; readonly reason: string };

export interface RunRequest {
  readonly tool: Tool;
  readonly site: Site;
  /** What {copyd} and {native} stand for. */
  readonly programs: Programs;
  readonly repeat: number;
  /** Looking at memory costs time: only in runs whose time does not count. */
  readonly memory: "watch" | "ignore";
  readonly service: BenchService | null;
}

/** Beyond this a command is killed and its run failed. */
const commandTimeoutMs = 15 * 60_000;
const ticksPerSecond = 100;

/** Runs the tool's steps, `repeat` times over; the caller has prepared the cache. */
export async function measureRun(request: RunRequest): Promise<RunOutcome> {
  const { tool, site, repeat, service } = request;
  const env = commandEnvironment(tool, service);
  const total = { seconds: 0, user: 0, system: 0 };
  let memory: MemoryPeak | null = null;
  const machineBefore = machineTimes();
  const serviceBefore = service?.cpuSeconds() ?? { user: 0, system: 0 };
  for (let repetition = 0; repetition < repeat; repetition++) {
    for (const step of tool.steps) {
      const destination = site.destination(repetition);
      if (step.kind === "evict") {
        await evict(destination);
        continue;
      }
      const command = step.command.map((word) => filledIn(word, site.source, destination, request.programs));
      const outcome = await timed(command, env, request.memory === "watch" ? (service?.pids() ?? []) : null);
      if (outcome.failure !== null) return { ok: false, reason: `${command[0]}: ${outcome.failure}` };
      total.seconds += outcome.seconds;
      total.user += outcome.user;
      total.system += outcome.system;
      if (outcome.memory !== null && outcome.memory.pssBytes > (memory?.pssBytes ?? 0)) memory = outcome.memory;
    }
  }
  await service?.workersEnded();
  const serviceAfter = service?.cpuSeconds() ?? { user: 0, system: 0 };
  const machineAfter = machineTimes();
  const userSeconds = total.user + serviceAfter.user - serviceBefore.user;
  const systemSeconds = total.system + serviceAfter.system - serviceBefore.system;
  const busy = machineAfter.busySeconds - machineBefore.busySeconds;
  const run: Run = {
    seconds: total.seconds / repeat,
    userSeconds: userSeconds / repeat,
    systemSeconds: systemSeconds / repeat,
    stealSeconds: (machineAfter.stealSeconds - machineBefore.stealSeconds) / repeat,
    othersSeconds: Math.max(0, busy - userSeconds - systemSeconds) / repeat,
  };
  return { ok: true, run, memory };
}

function filledIn(word: string, source: string, destination: string, programs: Programs): string {
  const named = Object.entries(programs).reduce((text, [name, path]) => text.replaceAll(name, path), word);
  return named.replaceAll("{src}", source).replaceAll("{dst}", destination);
}

/** Nothing of the user's settings, and a bus for the one tool that is to find it. */
function commandEnvironment(tool: Tool, service: BenchService | null): Record<string, string> {
  const env: Record<string, string> = { PATH: process.env.PATH ?? "/usr/bin:/bin", HOME: process.env.HOME ?? "/", LC_ALL: "C.UTF-8" };
  if (tool.role === "service" && service !== null) env.DBUS_SYSTEM_BUS_ADDRESS = service.address;
  return env;
}

interface Timed {
  readonly seconds: number;
  readonly user: number;
  readonly system: number;
  readonly memory: MemoryPeak | null;
  readonly failure: string | null;
}

async function timed(command: readonly string[], env: Record<string, string>, watchedPids: readonly number[] | null): Promise<Timed> {
  const start = performance.now();
  const child = Bun.spawn([...command], {
    cwd: "/",
    env,
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
    timeout: commandTimeoutMs,
    killSignal: "SIGKILL",
  });
  const said = new Response(child.stderr).text();
  const watch = watchedPids === null ? null : watchMemory([child.pid, ...watchedPids]);
  const status = await child.exited;
  const seconds = (performance.now() - start) / 1000;
  const memory = watch === null ? null : await watch.stop();
  const usage = child.resourceUsage();
  const complaint = (await said).trim().slice(0, 500);
  const failure = status === 0 ? null : `ended with ${child.signalCode ?? status}${complaint === "" ? "" : `: ${complaint}`}`;
  // Of the process and of the children that it has waited for.
  const micros = (value: bigint | undefined): number => Number(value ?? 0n) / 1e6;
  return { seconds, user: micros(usage?.cpuTime.user), system: micros(usage?.cpuTime.system), memory, failure };
}

interface MachineTimes {
  readonly busySeconds: number;
  readonly stealSeconds: number;
}

function machineTimes(): MachineTimes {
  const fields = (readFileSync("/proc/stat", "utf8").split("\n")[0] ?? "").split(/\s+/).slice(1).map(Number);
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = fields;
  return { busySeconds: (user + nice + system + irq + softirq) / ticksPerSecond, stealSeconds: steal / ticksPerSecond };
}
