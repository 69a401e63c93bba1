// The Manager on the bus: starts jobs for the caller, lists and finds them, and keeps the caller's subscription.

import { assert } from "../assert.ts";
import { CopyError } from "../errors.ts";
import { requireAdminOptions } from "../jobs/admin-options.ts";
import { type Caller, hasEnded, type Jobs, type JobView } from "../jobs/api.ts";
import type { PlannedOperation } from "../worker/protocol.ts";
import { copyDetails } from "./action-details.ts";
import type { Companions, Errands } from "./attachments.ts";
import { encodeRecord, queryOf, type ReadAudit } from "./audit-query.ts";
import type { Authorizations } from "./authorizations.ts";
import { contract, type ManagerProperty, managerInterface } from "./contract.ts";
import { decodeCopyArguments } from "./copy-arguments.ts";
import type { ForeignJobs } from "./foreign-jobs.ts";
import { jobProperties, weightOf } from "./job-properties.ts";
import { encodeStatistics, jobQueryOf, statisticsQueryOf, wantedProperties } from "./job-query.ts";
import { jobPath } from "./object-path.ts";
import type { CallContext, MethodHandler, ObjectInterface } from "./objects.ts";
import { checkKeys, optionFeatures, tokenOf } from "./options.ts";
import { excerpt } from "./paths.ts";
import { encodePreview } from "./preview-reply.ts";
import type { ServiceLimits } from "./service-limits.ts";
import type { Subscriptions } from "./subscriptions.ts";
import { asVariantDict, dictValue, Variant } from "./values.ts";

/** Raised with each addition to the XML. */
const apiMinor = 4;

const administratorFeatures = ["method:copy-as-admin", "method:move-as-admin", "list:all-users", "manage-others"];

export interface ManagerDependencies {
  readonly jobs: Jobs;
  readonly subscriptions: Subscriptions;
  readonly companions: Companions;
  readonly errands: Errands;
  /** Reads the audit trail. */
  readonly readAudit: ReadAudit;
  readonly limits: ServiceLimits;
  readonly version: string;
  /** Of this service on this machine. */
  readonly features: readonly string[];
  readonly authorizations: Authorizations;
  readonly foreign: ForeignJobs;
  /** What a unique name is remembered by beyond the end of this service. */
  readonly nameOf: (sender: string) => string;
  /** Who a unique name is. Throws access-denied. */
  readonly identify: (connection: string) => Promise<Caller>;
}

/** The Manager interface; one object serves every caller. */
export function managerObject(dependencies: ManagerDependencies): ObjectInterface {
  const { jobs, subscriptions, companions, limits, authorizations, foreign } = dependencies;

  /** What the call asks for, frozen before anybody is asked anything: what polkit is asked about is what will be done. */
  const accept = (operation: "copy" | "move", rights: "own" | "admin"): MethodHandler => {
    return async (args, context) => {
      const { token, request, alsoTo, requests, beyond } = decodeCopyArguments(operation, args, limits);
      if (rights === "admin") requireAdminOptions(request);
      if (rights === "admin" && alsoTo.length > 0) {
        throw new CopyError("not-supported", "the question to the administrator names one destination: there cannot be several");
      }
      for (const one of requests) await context.requireSameView(one);
      if (beyond !== null) await authorizations.requireBeyond(beyond, context);
      if (rights === "admin") await authorizations.require(`org.copyd.${operation}-as-admin`, copyDetails(request), context);
      const companion = request.options.onDisconnect === "cancel" ? { companion: dependencies.nameOf(context.sender) } : {};
      const common = { asAdmin: rights === "admin", alsoTo, ...companion };
      try {
        return [started(jobs.submit(context.caller, token, request, { ...common, beyondLimits: beyond !== null }), context)];
      } catch (error) {
        if (!(error instanceof CopyError) || error.code !== "limits-exceeded" || beyond !== null) throw error;
        await authorizations.requireBeyond(error, context);
      }
      return [started(jobs.submit(context.caller, token, request, { ...common, beyondLimits: true }), context)];
    };
  };
  const started = (job: JobView, { sender }: CallContext): string => {
    const isCompanion = job.request.options.onDisconnect === "cancel";
    for (const one of isCompanion ? [job, ...jobs.group(job).slice(1)] : []) {
      if (hasEnded(one.state)) continue;
      companions.add(one, sender);
      // Of a call that was repeated.
      jobs.accompany(one, dependencies.nameOf(sender));
    }
    return pathOf(job);
  };
  const requireForAll = async (allUsers: boolean, context: CallContext): Promise<void> => {
    if (allUsers && authorizations.isPossible) await authorizations.require("org.copyd.manage-others", new Map(), context);
  };
  /** A stranger's connection and one that does not exist are the same to the caller. */
  const requireOwn = async (connection: string, uid: number): Promise<void> => {
    const owner = await dependencies.identify(connection).catch(() => undefined);
    if (owner?.uid !== uid)
      throw new CopyError("bad-option", `option 'connection' names no connection of your user: '${excerpt(connection)}'`);
  };

  return {
    description: contract[managerInterface],
    property: (name) => managerProperty(name as ManagerProperty, dependencies),
    methods: {
      Copy: accept("copy", "own"),
      Move: accept("move", "own"),
      CopyUris: accept("copy", "own"),
      MoveUris: accept("move", "own"),
      CopyAsAdmin: accept("copy", "admin"),
      MoveAsAdmin: accept("move", "admin"),
      Preview: async (args, context) => {
        const { request, alsoTo, beyond } = decodeCopyArguments("copy", args, limits);
        if (beyond !== null) throw beyond;
        if (alsoTo.length > 0) throw new CopyError("not-supported", "a preview is of one destination: ask once for each");
        await context.requireSameView(request);
        const operations: PlannedOperation[] = [];
        const preview = await dependencies.errands.run(context.sender, (signal) =>
          jobs.preview(context.caller, request, {
            maxOperations: limits.maxPreviewOperations,
            // On the bus each operation comes with its details.
            maxBytes: limits.maxReplyBytes / 2,
            signal,
            onOperations: (more) => operations.push(...more),
          }),
        );
        return encodePreview(preview, operations);
      },
      ListJobs: async ([filter], context) => {
        const dict = asVariantDict(filter);
        const { query, allUsers } = jobQueryOf(dict, context.caller.uid, limits.maxListedJobs);
        const wanted = wantedProperties(dict);
        await requireForAll(allUsers, context);
        if (query.uid !== null) await foreign.require(query.uid, context);
        const found = newestThatFit(jobs.search(query), query.limit, limits.maxReplyBytes);
        return [found.map((job) => [pathOf(job), jobProperties(job, wanted)])];
      },
      GetStatistics: async ([by, filter], context) => {
        const { query, allUsers } = statisticsQueryOf(String(by), asVariantDict(filter), context.caller.uid, limits.maxListedJobs);
        await requireForAll(allUsers, context);
        return [jobs.statistics(query).map((row) => encodeStatistics(query.by, row))];
      },
      ListAudit: async ([filter], context) => {
        const query = queryOf(asVariantDict(filter), limits.maxListedRecords);
        if (authorizations.isPossible) await authorizations.require("org.copyd.read-audit", new Map(), context);
        return [dependencies.readAudit(query).map(encodeRecord)];
      },
      GetJob: ([token], { caller }) => {
        const job = jobs.get(caller.uid, String(token));
        if (job === undefined) throw new CopyError("no-such-job", `you have no job '${excerpt(String(token))}'`);
        return [pathOf(job)];
      },
      Subscribe: async ([options], context) => {
        const { sender, caller } = context;
        const dict = asVariantDict(options);
        checkKeys(dict, { token: "s", lines: "b", errors: "b", connection: "s", uid: "u" });
        const named = dictValue(dict, "token", "s");
        const token = named === undefined ? null : tokenOf(named);
        const lines = dictValue(dict, "lines", "b") ?? false;
        const errors = dictValue(dict, "errors", "b") ?? false;
        const connection = dictValue(dict, "connection", "s") ?? sender;
        if (connection !== sender) await requireOwn(connection, caller.uid);
        const owner = dictValue(dict, "uid", "u") ?? caller.uid;
        await foreign.require(owner, context, token ?? undefined);
        subscriptions.add(connection, caller.uid, { owner, token, lines, errors });
        return [];
      },
      Unsubscribe: (_args, { sender }) => {
        subscriptions.remove(sender);
        return [];
      },
    },
  };
}

/** The newest jobs, oldest first, as many as one reply may have and hold. */
export function newestThatFit(jobs: readonly JobView[], limit: number, maxBytes: number): readonly JobView[] {
  let first = jobs.length;
  let bytes = 0;
  for (let job = jobs[first - 1]; job !== undefined && jobs.length - first < limit; job = jobs[first - 1]) {
    bytes += weightOf(job);
    if (bytes > maxBytes && first < jobs.length) break;
    first--;
  }
  return jobs.slice(first);
}

function managerProperty(name: ManagerProperty, { jobs, limits, version, features, authorizations }: ManagerDependencies): Variant {
  switch (name) {
    case "Version":
      return new Variant("s", version);
    case "ApiMinor":
      return new Variant("u", apiMinor);
    case "Features":
      return new Variant("as", [
        ...optionFeatures,
        "preview",
        "list-audit",
        "history",
        "statistics",
        "errors-signal",
        "cancel-remove",
        ...(authorizations.isPossible ? administratorFeatures : []),
        ...features,
      ]);
    case "Limits":
      return new Variant("a{sv}", toldLimits(limits));
    case "ActiveJobs":
      return new Variant("u", jobs.counts().active);
    case "QueuedJobs":
      return new Variant("u", jobs.counts().queued);
    default:
      assert(false, `the contract has no property ${String(name satisfies never)}`);
      return new Variant("s", "");
  }
}

function toldLimits(limits: ServiceLimits): Map<string, Variant> {
  return new Map([
    ["max-sources", new Variant("u", limits.maxSources)],
    ["max-argument-bytes", new Variant("u", limits.maxArgumentBytes)],
    ["max-subscriptions", new Variant("u", limits.maxSubscriptions)],
    ["max-waits", new Variant("u", limits.maxWaits)],
    ["max-listed-jobs", new Variant("u", limits.maxListedJobs)],
    ["max-preview-operations", new Variant("u", limits.maxPreviewOperations)],
    ["max-listed-errors", new Variant("u", limits.maxListedErrors)],
  ]);
}

function pathOf({ owner, token }: JobView): string {
  return jobPath(owner.uid, token);
}
