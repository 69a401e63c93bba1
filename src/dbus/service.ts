// The D-Bus service: wires callers, objects, subscribers and jobs on one connection, and begins and ends its life on the bus.

import { CopyError } from "../errors.ts";
import { hasEnded, type Jobs, type JobView } from "../jobs/api.ts";
import type { BusKind } from "./address.ts";
import { Announcer } from "./announcer.ts";
import { Companions, Errands, Waits } from "./attachments.ts";
import { Audit, type TellAudit } from "./audit.ts";
import type { ReadAudit } from "./audit-query.ts";
import { polkitAuthorize } from "./authorization.ts";
import { Authorizations } from "./authorizations.ts";
import { type Message, MessageType } from "./codec.ts";
import { type BusConnection, driver } from "./connection.ts";
import { busName, jobInterface, managerInterface, rootPath } from "./contract.ts";
import { Credentials } from "./credentials.ts";
import { Dispatcher } from "./dispatcher.ts";
import type { ReportInternal } from "./error-reply.ts";
import { FairCalls, type RawCall } from "./fair-calls.ts";
import { ForeignJobs } from "./foreign-jobs.ts";
import { jobObject } from "./job-object.ts";
import { jobProperties } from "./job-properties.ts";
import { managerObject, newestThatFit } from "./manager-object.ts";
import { jobPath, jobsPath, parseJobPath, userPath } from "./object-path.ts";
import type { BusObject, CallContext, ObjectInterface } from "./objects.ts";
import { defaultServiceLimits, type ServiceLimits } from "./service-limits.ts";
import { objectManagerDescription, objectManagerInterface } from "./standard-interfaces.ts";
import { type SubscriptionEntry, Subscriptions } from "./subscriptions.ts";
import { createUserDatabase } from "./user-database.ts";
import { Variant } from "./values.ts";

export interface ServiceDependencies {
  readonly connection: BusConnection;
  readonly jobs: Jobs;
  /** On the session bus only our own uid is served, and nothing needs polkit. */
  readonly kind: BusKind;
  readonly version: string;
  /** What it can do here beyond what this version always can, for the property Features. */
  readonly features?: readonly string[];
  readonly limits?: Partial<ServiceLimits>;
  /** For errors that callers may not see. */
  readonly reportInternal: ReportInternal;
  /** Where requests, refusals and grants are told; by default nowhere. */
  readonly audit?: TellAudit;
  /** Reads what was told; by default there is nothing. */
  readonly readAudit?: ReadAudit;
}

/** What a service that has given up its name still owes, for the next one to keep. */
export interface Promises {
  readonly subscriptions: readonly SubscriptionEntry[];
}

/** How long calls that came in the last moment may take: those that ask a person, or wait for a job, get no answer any more. */
const lastAnswersMs = 2_000;
/** Replies of this size wait for the bus; calls that would add to them wait for their turn instead. */
const maxBacklogBytes = 64 * 1024;
/** RequestName's flag and answers, as the D-Bus specification numbers them. */
const doNotQueue = 4;
const primaryOwner = 1;
const alreadyOwner = 4;

export class Service {
  private readonly connection: BusConnection;
  private readonly jobs: Jobs;
  private readonly limits: ServiceLimits;
  private readonly subscriptions: Subscriptions;
  private readonly waits: Waits;
  private readonly companions = new Companions();
  private readonly errands = new Errands();
  private readonly credentials: Credentials;
  private readonly announcer: Announcer;
  private readonly dispatcher: Dispatcher;
  private readonly calls: FairCalls;
  private readonly manager: ObjectInterface;
  private readonly foreign: ForeignJobs;
  private readonly audit: Audit;
  /** Another bus gives the same unique names to others. */
  private busId = "";
  /** While the name is being given up: calls that came meanwhile, which must not be lost. */
  private held: Message[] | null = null;
  /** Called when something was asked of the service or one of its jobs changed its state: what idleness counts from. */
  onActivity: () => void = () => {};

  constructor(dependencies: ServiceDependencies) {
    const { connection, jobs, kind } = dependencies;
    this.connection = connection;
    this.jobs = jobs;
    this.limits = { ...defaultServiceLimits, ...dependencies.limits };
    this.subscriptions = new Subscriptions(this.limits);
    this.waits = new Waits(this.limits.maxWaits);
    this.credentials = new Credentials(connection, createUserDatabase(), kind === "session" ? (process.getuid?.() ?? -1) : null);
    this.announcer = new Announcer(connection, jobs, this.subscriptions, this.limits);
    const audit = new Audit(dependencies.audit ?? (() => undefined));
    const authorize = kind === "session" ? null : polkitAuthorize(connection);
    this.audit = audit;
    const authorizations = new Authorizations(authorize, this.errands, audit, this.limits.maxAuthorizationsPerUser);
    this.foreign = new ForeignJobs(jobs, authorizations);
    this.manager = managerObject({
      jobs,
      subscriptions: this.subscriptions,
      companions: this.companions,
      errands: this.errands,
      readAudit: dependencies.readAudit ?? (() => []),
      limits: this.limits,
      version: dependencies.version,
      features: dependencies.features ?? [],
      authorizations,
      foreign: this.foreign,
      nameOf: (sender) => this.companionName(sender),
      identify: (name) => this.credentials.identify(name),
    });
    this.dispatcher = new Dispatcher({
      connection,
      identify: (sender) => this.credentials.identify(sender),
      requirePresent: (sender) => this.credentials.requirePresent(sender),
      processOf: (sender) => this.credentials.processOf(sender),
      findObject: (path, context) => this.findObject(path, context),
      reportInternal: dependencies.reportInternal,
      audit,
    });
    this.calls = new FairCalls({
      // Who cannot be identified is refused by name in its turn.
      userOf: (sender) =>
        this.credentials.identify(sender).then(
          ({ uid }) => uid,
          () => -1,
        ),
      serve: (message) => this.dispatcher.dispatch(message),
      mayServe: () => connection.backlogBytes < maxBacklogBytes,
      refuse: (header, reason) => {
        this.dispatcher.refuse(header, reason);
        this.onActivity();
      },
    });
    this.dispatcher.onAnswered = () => this.onActivity();
  }

  /** Serves from now on: listens to the bus and the jobs. The name comes last, by `requestName`. */
  async start(): Promise<void> {
    this.listenToJobs();
    this.connection.onMessage((message) => this.receive(message));
    this.connection.onCall((call) => this.receiveCall(call));
    this.connection.onRefused((header, reason) => {
      if (header.type === MessageType.call) this.dispatcher.refuse(header, reason);
    });
    // Connections that end, by the bus's own word: an empty third argument is "no new owner".
    const rule = `type='signal',sender='${driver.name}',interface='${driver.name}',member='NameOwnerChanged',path='${driver.path}',arg2=''`;
    await this.connection.callDriver("AddMatch", "s", [rule]);
    this.busId = String((await this.connection.callDriver("GetId", "", [])).body[0]);
  }

  /** True when the name is ours; false when another service has it. */
  async requestName(): Promise<boolean> {
    const reply = await this.connection.callDriver("RequestName", "su", [busName, doNotQueue]);
    return reply.body[0] === primaryOwner || reply.body[0] === alreadyOwner;
  }

  /** Whether anybody needs the service: a call, a subscriber or a job that has not ended. */
  isBusy(): boolean {
    const { active, queued } = this.jobs.counts();
    return this.calls.waiting > 0 || this.dispatcher.unanswered > 0 || this.subscriptions.count > 0 || active > 0 || queued > 0;
  }

  /**
   * Gives the name up if nobody needs the service; false: somebody does. From the moment when the name has gone there is no way
   * back: systemd ends a service of Type=dbus then, and calls to the name start a new one. Calls that the bus delivered before it
   * took the name away are answered here, and `promises` has what is to be kept of them beyond the end. `holdJobs` is called
   * before they are: the jobs they ask for are the next service's to start.
   */
  async releaseIfIdle(holdJobs: () => void): Promise<boolean> {
    if (this.isBusy()) return false;
    this.held = [];
    await this.connection.callDriver("ReleaseName", "s", [busName]);
    // The answer to ReleaseName came after every call that was meant for the name.
    const calls: readonly Message[] = this.held;
    this.held = null;
    if (calls.length === 0) return true;
    holdJobs();
    for (const call of calls) this.dispatcher.dispatch(call);
    const deadlineMs = performance.now() + lastAnswersMs;
    while (this.dispatcher.unanswered > 0 && performance.now() < deadlineMs) await Bun.sleep(1);
    return true;
  }

  /** What callers may rely on after they had their answers and no job tells: who hears of which jobs. */
  promises(): Promises {
    return { subscriptions: this.subscriptions.list() };
  }

  /**
   * Keeps what a former run of the service promised, as far as those it was promised to are still there; and ends the jobs that were to
   * end with callers that have left meanwhile. After `start`.
   */
  async keep({ subscriptions }: Promises): Promise<void> {
    for (const subscription of subscriptions) {
      const { sender, uid } = subscription;
      if (await this.isStill(sender, uid)) this.subscriptions.add(sender, uid, subscription);
    }
    for (const job of this.jobs.list(null)) if (job.companions.length > 0 && !hasEnded(job.state)) await this.keepCompanions(job);
  }

  private async keepCompanions(job: JobView): Promise<void> {
    const prefix = this.companionName("");
    const senders = job.companions.flatMap((name) => (name.startsWith(prefix) ? name.slice(prefix.length) : []));
    // Before they are looked for: who leaves in this very moment is heard of.
    for (const sender of senders) this.companions.add(job, sender);
    for (const sender of senders) if (!(await this.isStill(sender, job.owner.uid))) this.senderGone(sender);
    if (senders.length === 0) this.jobs.cancel(job);
  }

  private async isStill(sender: string, uid: number): Promise<boolean> {
    const caller = await this.credentials.identify(sender).catch(() => undefined);
    return caller?.uid === uid;
  }

  private companionName(sender: string): string {
    return `${this.busId} ${sender}`;
  }

  /** Answers new calls with shutting-down; calls under way go on. */
  refuseCalls(): void {
    this.dispatcher.refuseCalls();
  }

  /** After the jobs have stopped: answers what still waits, gives the name up and lets go of everything. */
  async stop(): Promise<void> {
    this.waits.rejectAll(new CopyError("shutting-down", "the service is stopping"));
    this.announcer.stop();
    // Rejected waits answer in the next turns of the microtask queue.
    await Bun.sleep(0);
    await this.connection.callDriver("ReleaseName", "s", [busName], 2_000).catch(() => undefined);
  }

  private receiveCall(call: RawCall): void {
    this.onActivity();
    if (this.held === null) {
      this.calls.take(call);
      return;
    }
    const message = call.decode();
    if (typeof message === "string") this.dispatcher.refuse(call.header, message);
    else this.held.push(message);
  }

  private receive(message: Message): void {
    if (message.sender === driver.name && message.member === "NameOwnerChanged" && message.signature === "sss") {
      const [name, , newOwner] = message.body as readonly [string, string, string];
      if (newOwner === "" && name.startsWith(":")) this.senderGone(name);
    }
  }

  private senderGone(sender: string): void {
    this.credentials.forget(sender);
    this.subscriptions.remove(sender);
    this.waits.senderGone(sender);
    this.errands.senderGone(sender);
    for (const job of this.companions.senderGone(sender)) {
      const current = this.jobs.get(job.owner.uid, job.token);
      if (current !== undefined && !hasEnded(current.state)) this.jobs.cancel(current);
    }
    this.onActivity();
  }

  private listenToJobs(): void {
    this.jobs.on("added", (job) => {
      this.audit.queued(job);
      this.announcer.added(job);
    });
    this.jobs.on("changed", (job, urgent) => this.announcer.changed(job, urgent));
    this.jobs.on("lines", (job, lines) => this.announcer.lines(job, lines));
    this.jobs.on("errors", (job, errors, offset) => {
      this.audit.failed(job, errors);
      this.announcer.errors(job, errors, offset);
    });
    this.jobs.on("ended", (job) => {
      this.audit.ended(job);
      this.announcer.ended(job);
      this.waits.ended(job);
      this.companions.remove(job);
      this.onActivity();
    });
    this.jobs.on("removed", (job) => {
      this.announcer.removed(job);
      this.onActivity();
    });
  }

  /** Jobs of others are not there but for who may manage them: the same answer as for what does not exist. */
  private async findObject(path: string, context: CallContext): Promise<BusObject | undefined> {
    const { caller } = context;
    if (path === rootPath) {
      const interfaces = new Map([
        [managerInterface, this.manager],
        [objectManagerInterface, this.objectManager()],
      ]);
      return { interfaces, children: ["jobs"] };
    }
    if (path === jobsPath) return nodeWith([lastElement(userPath(caller.uid))]);
    if (path === userPath(caller.uid)) return nodeWith(this.jobs.list(caller.uid).map(({ token }) => token));
    const address = parseJobPath(path);
    if (address === undefined) return rootPath.startsWith(path === "/" ? "/" : `${path}/`) ? nodeWith([nextElement(path)]) : undefined;
    const job = address.uid === caller.uid ? this.jobs.get(address.uid, address.token) : await this.foreign.find(address, context);
    if (job === undefined) return undefined;
    const { jobs, waits, limits } = this;
    return { interfaces: new Map([[jobInterface, jobObject(job, { jobs, waits, limits })]]), children: [] };
  }

  private objectManager(): ObjectInterface {
    return {
      description: objectManagerDescription,
      property: () => new Variant("s", ""),
      methods: {
        GetManagedObjects: (_args, { caller }) => {
          const { maxListedJobs, maxReplyBytes } = this.limits;
          const jobs = newestThatFit(this.jobs.list(caller.uid), maxListedJobs, maxReplyBytes);
          return [new Map(jobs.map((job) => [jobPath(job.owner.uid, job.token), new Map([[jobInterface, jobProperties(job)]])]))];
        },
      },
    };
  }
}

function nodeWith(children: readonly string[]): BusObject {
  return { interfaces: new Map(), children };
}

function lastElement(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** The element of the root path that follows this beginning of it. */
function nextElement(path: string): string {
  const rest = rootPath.slice(path === "/" ? 1 : path.length + 1);
  return rest.split("/")[0] ?? "";
}
