// A client of the service, for the CLI: submits, follows and steers jobs. Every call has a time-out, every failure is a CopyError.

import { assert } from "../assert.ts";
import { CopyError } from "../errors.ts";
import { type AlsoTo, type JobView, memberToken, type OptionChanges, type Scope, type StatisticsQuery } from "../jobs/api.ts";
import type { JobRequest } from "../request.ts";
import type { EntryError } from "../worker/protocol.ts";
import { type BusKind, busAddress } from "./address.ts";
import { type AuditEntry, type AuditFilter, auditEntryFrom, encodeFilter } from "./client-audit.ts";
import { type CopyCall, cancelOptions, changedOptions, copyCall, newToken, scopeOption, subscriptionOptions } from "./client-calls.ts";
import { clientError, fateUnknown } from "./client-errors.ts";
import { endWhenSilent } from "./client-heartbeat.ts";
import { encodeListOptions, type ListOptions, type Statistics, type StatisticsOptions, statisticsFrom } from "./client-history.ts";
import { beforeAnyJob, Patience } from "./client-patience.ts";
import { entryErrorFrom, errorBatchFrom, viewFromProperties } from "./client-views.ts";
import { type JobEvent, JobWatch, type WatchOptions } from "./client-watch.ts";
import { type Message, MessageFlag, MessageType } from "./codec.ts";
import { type BusConnection, connectBus, driver } from "./connection.ts";
import { busName, type JobMethod, jobInterface, type ManagerMethod, managerInterface, rootPath } from "./contract.ts";
import { type JobAddress, jobPath, parseJobPath } from "./object-path.ts";
import { asVariantDict, Variant, type VariantDict, type WireValue } from "./values.ts";

export type { AuditEntry, AuditFilter, JobEvent, JobWatch, ListOptions, Statistics, StatisticsOptions, WatchOptions };

export interface ClientOptions {
  /** Default: "system". */
  readonly bus?: BusKind;
  /** Instead of the environment's. */
  readonly address?: string;
  /** For each call, milliseconds; starting the service counts. Default 25 s, as D-Bus clients have it. */
  readonly timeoutMs?: number;
  /** How often it is looked whether the bus still answers, milliseconds. */
  readonly lookMs?: number;
  /** Called when all has been sent that is sent before the bus has answered anything. */
  readonly onGreeted?: () => void;
  /** Until the client is there: nobody waits for it any more, and what a silent bus holds is let go. */
  readonly signal?: AbortSignal;
}

export interface SubmitOptions {
  /** 1 to 48 characters A-Z a-z 0-9 _; without one the client chooses. */
  readonly token?: string;
  readonly asAdmin?: boolean;
  /** For all that comes before the service is asked for the job, milliseconds; default as for a call. Beyond, `no-service`. */
  readonly preparationMs?: number;
}

type Body = readonly WireValue[];

/** For a service that comes back slowly; the job is its own meanwhile. Milliseconds. */
const rewatchMs = 10 * 60_000;
/** Jobs in one reply: the service answers others between two of them. */
const pageJobs = 250;

/** Which job a command means: one of ours by token, or anybody's by its view. */
export type JobReference = string | Pick<JobView, "token" | "owner">;

/**
 * Connects to the bus and makes sure that the service is there, starting it where the bus can. Throws CopyError `no-service`
 * within milliseconds where there is no bus or no such service.
 */
export async function connectService(options: ClientOptions = {}): Promise<ServiceClient> {
  const kind = options.bus ?? "system";
  const address = options.address ?? busAddress(kind, process.env);
  if (address === undefined) throw new CopyError("no-service", `there is no ${kind} bus`);
  const { signal } = options;
  const giveUp = new Set<() => void>();
  const onAbort = (): void => {
    for (const abandon of giveUp) abandon();
  };
  signal?.addEventListener("abort", onAbort);
  try {
    const greeted: { readonly client: ServiceClient; readonly started: Promise<void> }[] = [];
    const greet = (connection: BusConnection): void => {
      const client = new ServiceClient(connection, options.timeoutMs ?? 25_000);
      const started = client.start();
      endWhenSilent(connection, options.lookMs);
      // Of a socket that another one is tried after, nobody waits for it.
      started.catch(() => undefined);
      greeted.push({ client, started });
      giveUp.add(() => connection.abandon("it was given up"));
      if (signal?.aborted === true) onAbort();
      options.onGreeted?.();
    };
    await connectBus(address, { greet });
    const last = greeted.at(-1);
    assert(last !== undefined, "a connection is greeted before it is there");
    const { client, started } = last;
    try {
      await started;
      return client;
    } catch (error) {
      client.close();
      throw error;
    }
  } catch (error) {
    throw clientError(error);
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

/** A connection to the service. Whoever connected closes it. */
export class ServiceClient implements Disposable {
  private readonly connection: BusConnection;
  private readonly timeoutMs: number;
  private readonly uid = process.getuid?.() ?? 0;
  private readonly watches = new Set<JobWatch>();
  /** The service's unique name: only what comes from there is believed. */
  private service = "";
  private reattaching = false;
  private readonly patience = new Patience();

  constructor(connection: BusConnection, timeoutMs: number) {
    this.connection = connection;
    this.timeoutMs = timeoutMs;
  }

  /** For `connectService`. */
  async start(): Promise<void> {
    this.connection.onMessage((message) => this.receive(message));
    void this.connection.closed.then((reason) => this.fail(new CopyError("no-service", `the bus has gone: ${reason}`)));
    await this.call(rootPath, "org.freedesktop.DBus.Peer", "Ping", "", []);
  }

  /** Queues a job and returns at once. */
  async submit(request: JobRequest, options: SubmitOptions = {}): Promise<JobView> {
    const address = await this.queue(copyCall(request, options.token ?? newToken(), { asAdmin: options.asAdmin ?? false, alsoTo: [] }));
    return viewFromProperties(address, await this.properties(address));
  }

  /** Queues a job and follows it from its first moment: no line and no error is missed. */
  async submitAndWatch(request: JobRequest, options: SubmitOptions & WatchOptions = {}): Promise<JobWatch> {
    const [watch] = await this.submitAndWatchAll(request, [], options);
    return watch;
  }

  /** The same of a job for each of several destinations, in their order. */
  async submitAndWatchAll(
    request: JobRequest,
    alsoTo: readonly AlsoTo[],
    options: SubmitOptions & WatchOptions = {},
  ): Promise<[JobWatch, ...JobWatch[]]> {
    const token = options.token ?? newToken();
    const others = alsoTo.map((_, index) => memberToken(token, index + 1));
    const preparing = beforeAnyJob(this.prepare([token, ...others], options), options.preparationMs ?? this.timeoutMs);
    const copy = copyCall(request, token, { asAdmin: options.asAdmin ?? false, alsoTo });
    await preparing;
    // Signals may come before the reply, so the watches are there first.
    const add = (each: string): JobWatch => this.addWatch({ uid: this.uid, token: each }, new Map(), options);
    const watches: [JobWatch, ...JobWatch[]] = [add(token), ...others.map(add)];
    try {
      // A token makes it the same job however often it is asked for; a person is asked once.
      const queue = (): Promise<JobAddress> => this.queue(copy);
      if (options.asAdmin === true) await queue();
      else await this.patience.during(queue);
      const refresh = (watch: JobWatch): Promise<void> => watch.refresh(() => this.properties(watch.address));
      const lost = (error: CopyError): never => {
        throw fateUnknown(error);
      };
      for (const watch of watches) await this.patience.during(() => refresh(watch)).catch(lost);
      return watches;
    } catch (error) {
      for (const watch of watches) this.watches.delete(watch);
      throw error;
    }
  }

  private async prepare([first, ...others]: readonly string[], options: WatchOptions): Promise<void> {
    const subscribe = (token = ""): Promise<void> => this.patience.during(() => this.subscribe({ uid: this.uid, token }, options));
    await Promise.all([this.attach(), subscribe(first)]);
    for (const each of others) await subscribe(each);
  }

  /** Follows a job. */
  async watch(job: JobReference, options: WatchOptions = {}): Promise<JobWatch> {
    const address = await this.patience.during(() => this.find(job));
    await this.attach();
    await this.patience.during(() => this.subscribe(address, options));
    const watch = this.addWatch(address, new Map(), options);
    await this.patience.during(() => watch.refresh(() => this.properties(address)));
    return watch;
  }

  /** Waits for the end of a job, through restarts of the service. */
  async wait(job: JobReference): Promise<JobView> {
    const watch = await this.watch(job);
    for await (const event of watch) if (event.type === "ended") return event.job;
    return watch.job;
  }

  /** Our jobs, or everybody's, which polkit must allow; as many as come in one reply, the newest of them, oldest first. */
  async list(options: ListOptions = {}): Promise<JobView[]> {
    const interactive = options.allUsers === true || (options.uid ?? this.uid) !== this.uid;
    const [rows] = await this.manager("ListJobs", "a{sv}", [encodeListOptions(options)], interactive);
    const views: JobView[] = [];
    for (const [path, properties] of rows as readonly [string, VariantDict][]) {
      const address = parseJobPath(path);
      if (address !== undefined) views.push(viewFromProperties(address, properties));
    }
    return views;
  }

  /** As `list`, however many replies it takes; at most `most`. */
  async listAll(options: ListOptions, most: number): Promise<JobView[]> {
    const jobs: JobView[] = [];
    while (jobs.length < most) {
      const before = jobs[0]?.createdTimeUs ?? options.before;
      const page = await this.list({ ...options, limit: Math.min(most - jobs.length, pageJobs), ...(before !== undefined && { before }) });
      if (page.length === 0) break;
      jobs.unshift(...page);
    }
    return jobs;
  }

  /** One page of the audit trail, newest first, which polkit must allow. */
  async audit(filter: AuditFilter): Promise<readonly AuditEntry[]> {
    const [rows] = await this.manager("ListAudit", "a{sv}", [encodeFilter(filter)], true);
    return (rows as readonly WireValue[]).map((row) => auditEntryFrom(asVariantDict(row)));
  }

  /** What ended jobs amount to. */
  async statistics(by: StatisticsQuery["by"], options: StatisticsOptions): Promise<Statistics[]> {
    const interactive = options.allUsers === true;
    const [rows] = await this.manager("GetStatistics", "sa{sv}", [by, encodeListOptions(options)], interactive);
    return (rows as readonly VariantDict[]).map((row) => statisticsFrom(by, asVariantDict(row)));
  }

  /** One job. Throws no-such-job. */
  async show(job: JobReference): Promise<JobView> {
    const address = await this.find(job);
    return viewFromProperties(address, await this.properties(address));
  }

  /** Errors and warnings from an offset on, as many as the service gives at once; none when there are no more. */
  async errors(job: JobReference, offset = 0): Promise<readonly EntryError[]> {
    return this.fetchErrors(await this.find(job), offset);
  }

  async cancel(job: JobReference, ...how: Parameters<typeof cancelOptions>): Promise<void> {
    await this.job(job, "Cancel", "a{sv}", [cancelOptions(...how)]);
  }

  async pause(job: JobReference, scope: Scope = "job"): Promise<void> {
    await this.job(job, "Pause", "a{sv}", [scopeOption(scope)]);
  }

  async resume(job: JobReference, scope: Scope = "job"): Promise<void> {
    await this.job(job, "Resume", "a{sv}", [scopeOption(scope)]);
  }

  async forget(job: JobReference): Promise<void> {
    await this.job(job, "Forget");
  }

  async answer(job: JobReference, question: number, choice: string, options: { readonly forAll: boolean }): Promise<void> {
    await this.job(job, "Answer", "usa{sv}", [question, choice, new Map([["for-all", new Variant("b", options.forAll)]])]);
  }

  async setOptions(job: JobReference, changes: OptionChanges): Promise<void> {
    await this.job(job, "SetOptions", "a{sv}", [changedOptions(changes)]);
  }

  /** Properties of the Manager: Version, Features, Limits and so on. */
  async about(): Promise<VariantDict> {
    const [all] = await this.call(rootPath, "org.freedesktop.DBus.Properties", "GetAll", "s", [managerInterface]);
    return asVariantDict(all);
  }

  close(): void {
    this.patience.end();
    for (const watch of this.watches) watch.close();
    this.connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  private async queue({ member, body, isInteractive }: CopyCall): Promise<JobAddress> {
    const isSent = this.connection.isOpen;
    const [path] = await this.manager(member, "aayaya{sv}", body, isInteractive).catch((error: CopyError) => {
      // With the call under way: nobody can say whether it came to the service.
      throw error.code === "no-answer" || (isSent && !this.connection.isOpen) ? fateUnknown(error) : error;
    });
    const address = parseJobPath(String(path));
    if (address === undefined) throw new CopyError("internal", `the service answered '${String(path)}' for a job`);
    return address;
  }

  private async find(job: JobReference): Promise<JobAddress> {
    if (typeof job !== "string") return { uid: job.owner.uid, token: job.token };
    const [path] = await this.manager("GetJob", "s", [job]);
    return parseJobPath(String(path)) ?? { uid: this.uid, token: job };
  }

  private async properties(address: JobAddress): Promise<VariantDict> {
    const [all] = await this.callJob(address, "org.freedesktop.DBus.Properties", "GetAll", "s", [jobInterface]);
    return asVariantDict(all);
  }

  private async fetchErrors(address: JobAddress, offset: number): Promise<readonly EntryError[]> {
    const [rows] = await this.callJob(address, jobInterface, "GetErrors", "uu", [offset, 0]);
    return (rows as readonly WireValue[]).map(entryErrorFrom);
  }

  private addWatch(address: JobAddress, properties: VariantDict, options: WatchOptions): JobWatch {
    for (const known of this.watches) if (known.isOver) this.watches.delete(known);
    const watch = new JobWatch(address, properties, options, (of, offset) => this.fetchErrors(of, offset));
    this.watches.add(watch);
    return watch;
  }

  private async subscribe({ uid, token }: JobAddress, options: WatchOptions): Promise<void> {
    const interactive = uid !== this.uid;
    const dict = subscriptionOptions(interactive ? { uid, token } : { token }, options);
    await this.manager("Subscribe", "a{sv}", [dict], interactive);
  }

  /** Asks to hear when the service goes, once, before the first job is followed. */
  private attached: Promise<unknown> | null = null;
  private async attach(): Promise<void> {
    const rule = `type='signal',sender='${driver.name}',interface='${driver.name}',member='NameOwnerChanged',arg0='${busName}'`;
    this.attached ??= this.connection.callDriver("AddMatch", "s", [rule]);
    await this.attached.catch((error: unknown) => {
      throw clientError(error);
    });
  }

  private job(job: JobReference, member: JobMethod, signature = "a{sv}", body: Body = [new Map()]): Promise<unknown> {
    return this.find(job).then((address) => this.callJob(address, jobInterface, member, signature, body));
  }

  /** Of another user's job, polkit may ask for a password. */
  private callJob({ uid, token }: JobAddress, interfaceName: string, member: string, signature: string, body: Body): Promise<Body> {
    return this.call(jobPath(uid, token), interfaceName, member, signature, body, uid !== this.uid);
  }

  private manager(member: ManagerMethod, signature: string, body: Body, interactive = false): Promise<Body> {
    return this.call(rootPath, managerInterface, member, signature, body, interactive);
  }

  private async call(
    path: string,
    interfaceName: string,
    member: string,
    signature: string,
    body: Body,
    interactive = false,
  ): Promise<Body> {
    const flags = interactive ? MessageFlag.allowInteractiveAuthorization : 0;
    const call = { destination: busName, path, interface: interfaceName, member, signature, body, flags };
    try {
      // A person may be asked for a password.
      const reply = await this.connection.call(call, interactive ? 5 * 60_000 : this.timeoutMs);
      this.service = reply.sender;
      return reply.body;
    } catch (error) {
      throw clientError(error);
    }
  }

  private receive(message: Message): void {
    if (message.type !== MessageType.signal) return;
    if (message.sender === driver.name && message.member === "NameOwnerChanged") {
      const [name, oldOwner, newOwner] = message.body as readonly string[];
      if (name !== busName) return;
      if (newOwner !== "") this.patience.serviceIsBack();
      if (oldOwner === this.service) void this.reattach(newOwner !== "");
      return;
    }
    // Anybody may send us signals; the service's reply has told its name before its first signal.
    if (message.sender !== this.service) return;
    const { path, member, signature, body } = message;
    for (const watch of this.watches) {
      if (jobPath(watch.address.uid, watch.address.token) !== path) continue;
      if (member === "PropertiesChanged" && signature === "sa{sv}as") watch.update(asVariantDict(body[1]));
      if (member === "Errors" && signature === "uua(ayussa{sv})") watch.tell(errorBatchFrom(body));
      if (member === "Lines" && signature === "aay") watch.say((body[0] as readonly Buffer[]).map((line) => line.toString("latin1")));
    }
    // Finished needs nothing more: State and Result came just before it.
  }

  /**
   * The service has gone while jobs were followed: it is waited for, then started by a call, and the jobs that it took up are
   * followed again. Not at once: whoever stops a service to replace it should find time for that.
   */
  private async reattach(isBack: boolean): Promise<void> {
    if (this.reattaching) return;
    this.reattaching = true;
    try {
      // A service that ends because nothing is left to do must not be started again.
      const left = (): JobWatch[] => [...this.watches].filter((watch) => !watch.isOver);
      if (left().length > 0 && !isBack) await this.patience.untilBack();
      for (const watch of left()) await this.rewatch(watch);
    } finally {
      this.reattaching = false;
    }
  }

  private async rewatch(watch: JobWatch): Promise<void> {
    try {
      await this.patience.during(async () => {
        if (watch.isOver) return;
        await this.subscribe(watch.address, watch.options);
        await watch.refresh(() => this.properties(watch.address));
        watch.isBack();
      }, rewatchMs);
    } catch (error) {
      watch.fail(clientError(error));
    }
  }

  private fail(error: CopyError): void {
    this.patience.end();
    for (const watch of this.watches) watch.fail(error);
  }
}
