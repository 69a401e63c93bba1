// `copyd doctor [PATH...]`: what copyd finds on this machine, each with a verdict and a remedy. Only workers load FFI, so one is asked.

import { existsSync } from "node:fs";
import type { ArgsDef } from "citty";
import type { ByteString } from "../bytes.ts";
import { CopyError } from "../errors.ts";
import { controllerFeatures } from "../jobs/user-groups.ts";
import { rawArguments } from "./argv.ts";
import { writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeText } from "./output.ts";
import { absolutePath, workingDirectory } from "./paths.ts";
import { commonArgs } from "./service-command.ts";
import { escapeControls, visibleText } from "./terminal-text.ts";

export interface Check {
  readonly name: string;
  readonly verdict: "ok" | "no" | "unknown";
  readonly detail: string;
  /** "" where there is nothing to do. */
  readonly remedy: string;
}

/** As src/worker/doctor.ts prints it. */
interface WorkerReport {
  readonly checks: readonly Check[];
  readonly filesystems: readonly { readonly path: ByteString; readonly filesystem: string; readonly checks: readonly Check[] }[];
}

const args = {
  path: {
    type: "positional",
    required: false,
    valueHint: "PATH...",
    description: "What filesystems to look at; the current directory's without it",
  },
  ...commonArgs,
} as const satisfies ArgsDef;

const workerTimeoutMs = 30_000;
const serviceTimeoutMs = 25_000;

export const doctorCommand = named("doctor", "Find out what this machine can do for copies, and what is missing", args, async (given) => {
  const typed = given._.length > 0 ? rawArguments(given._) : ["." as ByteString];
  const directory = workingDirectory();
  const report = await askWorker(typed.map((path) => absolutePath(path, directory)));
  const sections = [
    { title: "This machine", checks: [...report.checks, setprivCheck()] },
    { title: "The service", checks: await serviceChecks(given.session === true ? "session" : "system") },
    ...report.filesystems.map((filesystem, index) => ({
      title: `${visibleText(typed[index] ?? filesystem.path)}${filesystem.filesystem === "" ? "" : ` (${filesystem.filesystem})`}`,
      checks: filesystem.checks,
    })),
  ];
  for (const { title, checks } of sections) {
    if (given.json === true) for (const check of checks) writeJson({ type: "check", section: title, ...check });
    else writeText("stdout", sectionText(title, checks));
  }
  return 0;
});

const marks: Readonly<Record<Check["verdict"], string>> = { ok: "yes", no: "no", unknown: "?" };

function sectionText(title: string, checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const lines = checks.map(({ name, verdict, detail, remedy }) => {
    const advice = remedy === "" || verdict === "ok" ? "" : `\n${" ".repeat(width + 9)}${escapeControls(remedy)}`;
    return `  ${name.padEnd(width)}  ${marks[verdict].padEnd(3)}  ${escapeControls(detail)}${advice}`;
  });
  return `${title}\n${lines.join("\n")}\n\n`;
}

async function askWorker(paths: readonly ByteString[]): Promise<WorkerReport> {
  const { selfCommand, selfName, workerEnvironment } = await import("../worker/spawn.ts");
  const encoded = paths.map((path) => path.replace(/[^A-Za-z0-9/._-]/g, (byte) => `%${byte.charCodeAt(0).toString(16).padStart(2, "0")}`));
  const child = Bun.spawn([...selfCommand(), "--doctor", ...encoded], {
    argv0: selfName,
    cwd: "/",
    env: { ...workerEnvironment },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: workerTimeoutMs,
  });
  const [stdout, stderr, status] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (status !== 0)
    throw new CopyError("worker-start", `the worker that looks at the machine ended with status ${status}: ${stderr.trim()}`);
  return JSON.parse(stdout) as WorkerReport;
}

/** The service starts workers through setpriv; the embedded mode does not need it. */
function setprivCheck(): Check {
  const path = ["/usr/bin/setpriv", "/bin/setpriv", "/usr/sbin/setpriv"].find((candidate) => existsSync(candidate));
  if (path !== undefined) return { name: "setpriv", verdict: "ok", detail: path, remedy: "" };
  return {
    name: "setpriv",
    verdict: "no",
    detail: "not found: the system service cannot start workers as its callers",
    remedy: "Install util-linux.",
  };
}

/** What the service says that the kernel limits for each user. */
function limitsCheck(features: unknown): Check {
  const missing = Object.values(controllerFeatures).filter((feature) => !(Array.isArray(features) && features.includes(feature)));
  const name = "limits per user";
  if (missing.length === 0) return { name, verdict: "ok", detail: "memory and processes, by control groups", remedy: "" };
  const words = missing.map((feature) => feature.replace(/^limit:worker-/, "")).join(" and ");
  return {
    name,
    verdict: "no",
    detail: `the ${words} of one user's copies are limited with those of all users only`,
    remedy:
      "The service's journal says why. It takes control groups of version 2 (boot with systemd.unified_cgroup_hierarchy=1) and the unit's Delegate=.",
  };
}

async function serviceChecks(bus: "system" | "session"): Promise<Check[]> {
  const { connect } = await import("./service-runner.ts");
  const name = `${bus} service`;
  try {
    const client = await connect(bus, serviceTimeoutMs);
    try {
      const about = await client.about();
      const version = String(about.get("Version")?.value ?? "of unknown version");
      const answers: Check = { name, verdict: "ok", detail: `copyd ${version} answers on the ${bus} bus`, remedy: "" };
      return bus === "session" ? [answers] : [answers, limitsCheck(about.get("Features")?.value)];
    } finally {
      client.close();
    }
  } catch (error) {
    if (!(error instanceof CopyError)) throw error;
    return [{ name, verdict: "no", detail: `${error.message}; cp and mv copy by themselves`, remedy: error.advice }];
  }
}
