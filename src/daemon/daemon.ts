// The service's process: configuration, store, jobs and bus wired together, from its start to an orderly end.

import { mkdirSync } from "node:fs";
import { totalmem } from "node:os";
import { join } from "node:path";
import { type Config, loadConfig } from "../config.ts";
import { memoryBytes } from "../config-settings.ts";
import { busAddress } from "../dbus/address.ts";
import { type BusConnection, BusError, connectBus } from "../dbus/connection.ts";
import { busName } from "../dbus/contract.ts";
import { Service } from "../dbus/service.ts";
import { decodeLimits } from "../dbus/service-limits.ts";
import { CopyError } from "../errors.ts";
import type { Jobs } from "../jobs/api.ts";
import type { AuditRecord } from "../jobs/audit-trail.ts";
import { freeze, thaw } from "../jobs/freeze.ts";
import { createJobs } from "../jobs/jobs.ts";
import type { AdjustableJobs } from "../jobs/jobs-dependencies.ts";
import { SlowDevices } from "../jobs/slow-devices.ts";
import { type JobStore, openStore } from "../jobs/store.ts";
import { openUserGroups, type UserGroupLimits, type UserGroups } from "../jobs/user-groups.ts";
import { isJournal, log } from "../log.ts";
import { version } from "../version.ts";
import { callSuccessor, leaveHandover, takeHandover } from "./handover.ts";
import { IdleTimer } from "./idle-timer.ts";
import { journalSink } from "./journal.ts";
import { policiesOf, type ServiceSettings } from "./policies.ts";
import { refuseEveryCall } from "./refusing-service.ts";
import { Reload } from "./reload.ts";
import { SleepGuard } from "./sleep-guard.ts";
import { SpareMemory } from "./spare-memory.ts";
import { StopRequest } from "./stop-request.ts";
import { UnfinishedMarker } from "./unfinished-marker.ts";
import { startWatchdog } from "./watchdog.ts";

/** Of the ten seconds until systemd and people lose patience, what the workers get. */
const stopJobsMs = 8_000;

/** `copyd daemon`: serves until it is told to stop, has nothing to do or the bus goes away. Resolves to the exit status. */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    const load = (): ServiceSettings => {
      const config = loadConfig(argv, process.env);
      return { ...config, policyFor: policiesOf(config) };
    };
    const config = load();
    log.setLevel(config.service.logLevel);
    using reload = new Reload(load);
    return await serve(config, reload);
  } catch (error) {
    if (!(error instanceof CopyError)) throw error;
    log.error(error.message, { code: error.code, advice: error.advice });
    if (error.code === "bad-config") await tellCallers(argv, error);
    return error.failure.exitStatus;
  }
}

/** Whoever called is waiting. Where there is no bus, or another service, nobody is. */
async function tellCallers(argv: readonly string[], error: CopyError): Promise<void> {
  const kind = argv.includes("--session") ? "session" : "system";
  const address = busAddress(kind, process.env);
  if (address === undefined || (kind === "system" && process.getuid?.() !== 0)) return;
  try {
    const connection = await connectBus(address);
    try {
      await requireFreeName(connection);
      await refuseEveryCall(connection, error);
    } finally {
      connection.close();
    }
  } catch (cause) {
    log.warning("callers could not be told", { reason: cause instanceof Error ? cause.message : String(cause) });
  }
}

async function serve(config: ServiceSettings, reload: Reload<ServiceSettings>): Promise<number> {
  if (config.bus === "system" && process.getuid?.() !== 0) {
    throw new CopyError("usage", "the system's service runs as root: start it through the bus, or use --session for a service of your own");
  }
  // Nothing of ours depends on where we were started, and no filesystem is kept busy.
  process.chdir("/");
  using stop = new StopRequest();
  if (isJournal(process.env.JOURNAL_STREAM)) log.setSink(await journalSink());
  using _watchdog = await startWatchdog(process.env);
  const connection = await openBus(config);
  try {
    await requireFreeName(connection);
    const store = await openStoreIn(config);
    let end: End;
    try {
      end = await run(config, connection, store, { stop, reload });
    } finally {
      store.close();
    }
    // Not earlier: the store is one service's at a time.
    if (end.successor) await callSuccessor(connection);
    return end.status;
  } finally {
    connection.close();
  }
}

interface End {
  readonly status: number;
  /** Whether calls of the last moment left something for another service to do. */
  readonly successor: boolean;
}

interface Signals {
  readonly stop: StopRequest;
  readonly reload: Reload<ServiceSettings>;
}

async function run(config: ServiceSettings, connection: BusConnection, store: JobStore, { stop, reload }: Signals): Promise<End> {
  const { bus: kind, stateDirectory } = config;
  let { policyFor } = config;
  const userGroups = divideGroup(config);
  const jobs = createJobs({
    policyFor: (caller) => policyFor(caller),
    mode: kind,
    limits: config.jobs,
    store,
    stateDirectory,
    slowDevices: new SlowDevices(),
    userGroups,
    pace: () => connection.untilTaken(),
    log,
  });
  jobs.hold();
  using marker = new UnfinishedMarker(stateDirectory, jobs);
  using _spare = new SpareMemory(jobs);
  const service = new Service({
    connection,
    jobs,
    kind,
    version,
    features: userGroups?.features ?? [],
    limits: config.calls,
    audit: (record) => {
      tellAudit(record);
      store.addAudit(record);
    },
    readAudit: (query) => store.audit(query),
    reportInternal: (error) => log.error("a call met an internal error", { reason: error instanceof Error ? error.stack : String(error) }),
  });
  void connection.closed.then((reason) => stop.request("bus-gone", reason));
  let mayBegin = true;
  const hold = (): void => {
    mayBegin = false;
    jobs.hold();
  };
  using idle = new IdleTimer(config.service.idleExitSeconds * 1000, () => service.releaseIfIdle(hold));
  idle.onReleased = () => stop.request("idle", idle.words);
  // What callers were told (calls) and what the store was opened with (history) holds until the next start.
  reload.onLoaded = (changed) => {
    log.setLevel(changed.service.logLevel);
    idle.timeoutMs = changed.service.idleExitSeconds * 1000;
    jobs.setLimits(changed.jobs);
    userGroups?.setLimits(userGroupLimits(changed));
    policyFor = changed.policyFor;
  };
  using sleepGuard = await guardSleep(jobs, stop);
  const up = sleepGuard?.untilUp() ?? Promise.resolve();
  service.onActivity = () => {
    idle.restart();
    sleepGuard?.update();
  };
  await service.start();
  // What is handed over waits until those who were promised to hear of it do.
  await service.keep(takeHandover(stateDirectory));
  void up.then(() => {
    if (mayBegin) jobs.release();
  });
  // Last: who calls is served at once.
  if (!(await service.requestName())) throw nameTaken();
  log.notice("the service is ready", { version, bus: kind, state: stateDirectory });

  const { kind: reason, words } = await stop.requested;
  mayBegin = false;
  // systemd's SIGTERM comes as soon as the name has gone, and may be here before we know of that: calls of that moment are answered first.
  await idle.releasing;
  log.notice("the service stops", { reason: idle.hasReleased ? idle.words : words });
  const successor = idle.hasReleased && leaveWhatIsOwed(service, jobs, stateDirectory);
  await stopServing(service, jobs);
  marker.settle(store.unfinished().some(({ state }) => state !== "paused"));
  // systemd starts the service again when the system's bus has come back; a session without its bus is over.
  return { status: reason === "bus-gone" && kind === "system" ? 1 : 0, successor };
}

/** The control groups of users, as far as there are any; what there is not, the log says. A session has one user. */
function divideGroup(config: Config): UserGroups | null {
  if (config.bus === "session") return null;
  const groups = openUserGroups(process.env, { limits: userGroupLimits(config), log });
  const missing = "reason" in groups ? [groups.reason] : [...groups.missing].map(([controller, reason]) => `${controller}: ${reason}`);
  if (missing.length > 0) log.notice("what the workers of one user may take is limited by the unit only", { reason: missing.join("; ") });
  return "reason" in groups ? null : groups;
}

function userGroupLimits({ limits }: Config): UserGroupLimits {
  return { memoryBytes: memoryBytes(limits.workerMemory, totalmem()) ?? 0, processes: limits.workerProcesses };
}

async function guardSleep(jobs: AdjustableJobs, stop: StopRequest): Promise<SleepGuard | null> {
  const address = busAddress("system", process.env);
  if (address === undefined) return null;
  const guard = await SleepGuard.start(address, {
    isBusy: () => jobs.counts().active > 0,
    freeze: () => freeze(jobs),
    thaw: () => thaw(jobs),
    stop: () => stop.request("shutdown", "the machine shuts down"),
  });
  jobs.on("changed", (_job, isUrgent) => {
    if (isUrgent) guard?.update();
  });
  return guard;
}

function leaveWhatIsOwed(service: Service, jobs: Jobs, stateDirectory: string): boolean {
  const promises = service.promises();
  const owes = promises.subscriptions.length > 0;
  if (owes) leaveHandover(stateDirectory, promises);
  return owes || jobs.counts().queued > 0;
}

/** Refusals and grants are what an administrator looks for; the rest is there for who asks. The jobs tell of themselves. */
function tellAudit({ event, method, sender, ...rest }: AuditRecord): void {
  // What polkit granted has an action instead; what a job was refused has no sender.
  const facts = { method: method === "" ? undefined : method, sender: sender === "" ? undefined : sender, ...rest };
  if (event === "queued" || event === "ended") return;
  if (event === "request") log.info("call served", facts);
  else if (event === "grant") log.notice("authorization granted", facts);
  else log.notice(sender === "" ? "job met what the policy forbids" : "call refused", facts);
}

/** New calls are refused, running jobs are stopped, then those who still wait are told. */
async function stopServing(service: Service, jobs: Jobs): Promise<void> {
  service.refuseCalls();
  const timeout = Promise.withResolvers<"too-long">();
  const timer = setTimeout(() => timeout.resolve("too-long"), stopJobsMs);
  const outcome = await Promise.race([jobs.shutdown(), timeout.promise]);
  clearTimeout(timer);
  await service.stop();
  if (outcome !== "too-long") return;
  log.warning("workers did not stop in time and are left to the kernel", { seconds: stopJobsMs / 1000 });
  // Their pipes would keep this process.
  setTimeout(() => process.exit(), 500).unref();
}

async function openBus({ bus, calls }: Config): Promise<BusConnection> {
  const address = busAddress(bus, process.env);
  if (address === undefined)
    throw new CopyError("no-service", "there is no session bus: DBUS_SESSION_BUS_ADDRESS and XDG_RUNTIME_DIR are not set");
  try {
    return await connectBus(address, { limits: decodeLimits(calls) });
  } catch (error) {
    if (error instanceof BusError) throw new CopyError("no-service", `the ${bus} bus cannot be reached: ${error.message}`, {}, error);
    throw error;
  }
}

/** Before the store is opened and its jobs are taken up: whether another service has the name already. */
async function requireFreeName(connection: BusConnection): Promise<void> {
  const reply = await connection.callDriver("NameHasOwner", "s", [busName]);
  if (reply.body[0] === true) throw nameTaken();
}

function nameTaken(): CopyError {
  return new CopyError("invalid-state", `another process owns ${busName} on this bus`);
}

async function openStoreIn({ stateDirectory, history }: Config): Promise<JobStore> {
  try {
    // File names are private: 0700, as the store's own files.
    mkdirSync(stateDirectory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code ?? String(cause);
    throw new CopyError("bad-config", `the state directory ${stateDirectory} cannot be made (${reason}): set STATE_DIRECTORY`, {}, cause);
  }
  return openStore({ path: join(stateDirectory, "jobs.db"), log, ...history });
}
