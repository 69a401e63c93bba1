// Who runs the job of cp and mv: the system service where it is there at once, else this process.

import type { ByteString } from "../bytes.ts";
import { CopyError } from "../errors.ts";
import type { JobRequest } from "../request.ts";
import type { Settings } from "./copy-settings.ts";
import { hasSystemBus } from "./embedded-ahead.ts";
import { writeText } from "./output.ts";
import { isOfThisProcess, isThroughWorkingDirectory } from "./paths.ts";
import type { Runner, RunOptions } from "./runner.ts";

/** The service may have to be started first; a user who could have copied a file meanwhile should not wait longer for it. */
const systemTimeoutMs = 1500;
/** One that was there and falls silent before it has a job: it may be restarting, which takes some seconds. */
const preparationMs = 5_000;
/** Who asks for a service by name waits as long as starting it may take. */
const patientTimeoutMs = 25_000;

/**
 * Chooses, and loads what the choice needs and nothing else: a cp of one small file is mostly loading. `calledAsCp`: the
 * binary stands in for cp or mv, where nobody expects a service. Throws CopyError where the session's service was asked for
 * and is not there.
 */
export async function chooseRunner(settings: Readonly<Settings>, { calledAsCp }: { readonly calledAsCp: boolean }): Promise<Runner> {
  if (settings.service === "session") {
    const { connect, serviceRunner } = await import("./service-runner.ts");
    const client = await connect("session", patientTimeoutMs);
    return async (request, listener, options) => {
      try {
        requireLastingPaths(request, options);
      } catch (error) {
        client.close();
        throw error;
      }
      return serviceRunner(client)(request, listener, options);
    };
  }
  if (settings.admin) return asAdministrator;
  // How many lanes a service's worker has is the service's to say.
  if (settings.service === "local" || calledAsCp || settings.lanes > 0 || !hasSystemBus()) return await embedded();
  return systemOrEmbedded;
}

/** Nobody else can do it instead: the service, or an error. */
const asAdministrator: Runner = async (request, listener, options) => {
  requireLastingPaths(request, options);
  const { connect, serviceRunner } = await import("./service-runner.ts");
  const { withTextAgent } = await import("./text-agent.ts");
  // Only until polkit has its answer: then the terminal is the copy's own again.
  return await withTextAgent(async () =>
    serviceRunner(await connect("system", patientTimeoutMs), { asAdmin: true })(request, listener, options),
  );
};

const systemOrEmbedded: Runner = async (request, listener, options) => {
  // Our own open files, as /dev/stdin: nobody else can open them, and the service's worker least of all.
  if (pathsOf(request, options).some(isOfThisProcess)) return (await embedded())(request, listener, options);
  const { connect, serviceRunner } = await import("./service-runner.ts");
  try {
    return await serviceRunner(await connect("system", systemTimeoutMs), { preparationMs })(request, listener, options);
  } catch (error) {
    // Not installed, not allowed, another mount namespace, too many sources for one call: whatever keeps the service from
    // taking the job does not keep us from doing it. Only where it may have taken it, we must not do it a second time.
    if (!(error instanceof CopyError) || error.code === "no-answer" || error.code === "internal") throw error;
    // An administrator's no is not to be got around by accident; --local is there for who may.
    if (error.code === "policy-denied") throw error;
    if (error.code === "sandboxed-caller") writeText("stderr", `${programOf(request)}: ${sandboxNote}\n`);
    return (await embedded())(request, listener, options);
  }
};

/** A job of the service may outlive us, and goes on by its paths. Throws CopyError. */
function requireLastingPaths(request: JobRequest, options: RunOptions): void {
  if (!pathsOf(request, options).some(isThroughWorkingDirectory)) return;
  throw new CopyError(
    "not-supported",
    "the working directory lies too deep for the service, which needs whole paths: --local copies without it",
  );
}

/** All that the job is to open; "" for a manifest that nobody wants. */
function pathsOf({ sources, destination, options }: JobRequest, { alsoTo }: RunOptions): ByteString[] {
  return [...sources, destination, ...alsoTo.map((also) => also.destination), options.manifest as ByteString];
}

/** Who set up a sandbox with a way to the service should learn that it leads nowhere. */
const sandboxNote = "note: the service sees other files than this sandbox does; copying without it";

function programOf({ operation, options }: JobRequest): string {
  return options.gnu.names?.program ?? (operation === "move" ? "mv" : "cp");
}

async function embedded(): Promise<Runner> {
  return (await import("./embedded-runner.ts")).runEmbedded;
}
