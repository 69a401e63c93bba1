// The Manager on the bus: starts jobs for the caller, lists and finds them, and keeps the caller's subscription.

import { assert } from "../assert.ts";
import { CopyError } from "../errors.ts";
import { type Caller, type Jobs, type JobView, jobStates } from "../jobs/api.ts";
import type { PlannedOperation } from "../worker/protocol.ts";
import type { Companions, Errands } from "./attachments.ts";
import type { Audit } from "./audit.ts";
import type { Authorize, PolkitAction } from "./authorization.ts";
import { contract, type ManagerProperty, managerInterface } from "./contract.ts";
import { decodeCopyArguments } from "./copy-arguments.ts";
import { jobProperties, weightOf } from "./job-properties.ts";
import { jobPath } from "./object-path.ts";
import type { CallContext, MethodHandler, ObjectInterface } from "./objects.ts";
import { checkKeys, optionFeatures, tokenOf } from "./options.ts";
import { excerpt } from "./paths.ts";
import { encodePreview } from "./preview-reply.ts";
import type { ServiceLimits } from "./service-limits.ts";
import type { Subscriptions } from "./subscriptions.ts";
import { asVariantDict, dictValue, Variant } from "./values.ts";

/** Raised with each addition to the XML. */
const apiMinor = 0;

export interface ManagerDependencies {
  readonly jobs: Jobs;
  readonly subscriptions: Subscriptions;
  readonly companions: Companions;
  readonly errands: Errands;
  readonly audit: Audit;
  readonly limits: ServiceLimits;
  readonly version: string;
  /** null on the session bus, where there is nothing to authorize and no administrator. */
  readonly authorize: Authorize | null;
  /** Who a unique name is. Throws access-denied. */
  readonly identify: (connection: string) => Promise<Caller>;
}

/** The Manager interface; one object serves every caller. */
export function managerObject(dependencies: ManagerDependencies): ObjectInterface {
  const { jobs, subscriptions, companions, limits, authorize } = dependencies;
  const asking = new Map<number, number>();

  const submit = (operation: "copy" | "move"): MethodHandler => {
    return async (args, context) => {
      const { token, request } = decodeCopyArguments(operation, args, limits);
      await context.requireSameView(request);
      return [started(jobs.submit(context.caller, token, request), context)];
    };
  };
  const started = (job: JobView, { sender }: CallContext): string => {
    if (job.request.options.onDisconnect === "cancel") companions.add(job, sender);
    return pathOf(job);
  };
  /** One question at a time is what a person can answer; a few more are what a program may ask. */
  const requireAuthorized = async (action: PolkitAction, context: CallContext, ask: Authorize): Promise<void> => {
    const { uid } = context.caller;
    const under = asking.get(uid) ?? 0;
    if (under >= limits.maxAuthorizationsPerUser)
      throw new CopyError("limits-exceeded", "too many authorizations of your user are under way");
    asking.set(uid, under + 1);
    try {
      await ask(action, context);
      dependencies.audit.granted(action, context);
    } finally {
      const left = (asking.get(uid) ?? 1) - 1;
      if (left > 0) asking.set(uid, left);
      else asking.delete(uid);
    }
    context.stillThere();
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
      Copy: submit("copy"),
      Move: submit("move"),
      CopyUris: submit("copy"),
      MoveUris: submit("move"),
      CopyAsAdmin: async (args, context) => {
        // Decoded and frozen first: what polkit is asked about is what will be done.
        const { token, request } = decodeCopyArguments("copy", args, limits);
        if (authorize === null) throw new CopyError("not-supported", "a session's service has no administrator's rights to lend");
        await context.requireSameView(request);
        await requireAuthorized("org.copyd.copy-as-admin", context, authorize);
        return [started(jobs.submit(context.caller, token, request, { asAdmin: true }), context)];
      },
      Preview: async (args, context) => {
        const { request } = decodeCopyArguments("copy", args, limits);
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
        checkKeys(dict, { "all-users": "b", states: "as", limit: "u" });
        const states = statesOf(dictValue(dict, "states", "as"));
        const allUsers = dictValue(dict, "all-users", "b") ?? false;
        if (allUsers && authorize !== null) await requireAuthorized("org.copyd.manage-others", context, authorize);
        const wanted = jobs.list(allUsers ? null : context.caller.uid).filter(({ state }) => states === null || states.includes(state));
        const limit = Math.min(dictValue(dict, "limit", "u") ?? limits.maxListedJobs, limits.maxListedJobs);
        return [newestThatFit(wanted, limit, limits.maxReplyBytes).map((job) => [pathOf(job), jobProperties(job)])];
      },
      GetJob: ([token], { caller }) => {
        const job = jobs.get(caller.uid, String(token));
        if (job === undefined) throw new CopyError("no-such-job", `you have no job '${excerpt(String(token))}'`);
        return [pathOf(job)];
      },
      Subscribe: async ([options], { sender, caller }) => {
        const dict = asVariantDict(options);
        checkKeys(dict, { token: "s", lines: "b", connection: "s" });
        const named = dictValue(dict, "token", "s");
        const token = named === undefined ? null : tokenOf(named);
        const lines = dictValue(dict, "lines", "b") ?? false;
        const connection = dictValue(dict, "connection", "s") ?? sender;
        if (connection !== sender) await requireOwn(connection, caller.uid);
        subscriptions.add(connection, caller.uid, { token, lines });
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

function managerProperty(name: ManagerProperty, { jobs, limits, version, authorize }: ManagerDependencies): Variant {
  switch (name) {
    case "Version":
      return new Variant("s", version);
    case "ApiMinor":
      return new Variant("u", apiMinor);
    case "Features":
      return new Variant("as", [...optionFeatures, "preview", ...(authorize === null ? [] : ["method:copy-as-admin", "list:all-users"])]);
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

function statesOf(given: readonly string[] | undefined): readonly string[] | null {
  if (given === undefined) return null;
  const unknown = given.find((state) => !(jobStates as readonly string[]).includes(state));
  if (unknown !== undefined) {
    throw new CopyError(
      "bad-option",
      `option 'states' takes ${jobStates.map((state) => `'${state}'`).join(", ")}, not '${excerpt(unknown)}'`,
    );
  }
  return given;
}

function pathOf({ owner, token }: JobView): string {
  return jobPath(owner.uid, token);
}
