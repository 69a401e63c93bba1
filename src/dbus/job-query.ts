// ListJobs and GetStatistics: what is asked, decoded, and what is answered, encoded.

import { CopyError } from "../errors.ts";
import {
  type JobQuery,
  type JobState,
  jobStates,
  type StatisticsQuery,
  type StatisticsRow,
  statisticsKeys,
  statisticsOrders,
} from "../jobs/api.ts";
import type { JobProperty } from "./contract.ts";
import { isJobProperty } from "./job-properties.ts";
import { pathBytes } from "./option-keys.ts";
import { checkKeys, oneOf, tokenOf } from "./options.ts";
import { excerpt } from "./paths.ts";
import { dictValue, Variant, type VariantDict } from "./values.ts";

/** Reading so many from the store takes some 20 ms, during which nobody else is served. */
const historyPage = 200;

export interface Asked<Query> {
  /** The query for the caller's jobs, for another user's, or, with uid null, for everybody's. */
  readonly query: Query;
  readonly allUsers: boolean;
}

/** Throws unknown-option or bad-option. */
export function jobQueryOf(dict: VariantDict, uid: number, mostJobs: number): Asked<JobQuery> {
  checkKeys(dict, {
    "all-users": "b",
    uid: "u",
    states: "as",
    token: "s",
    history: "b",
    since: "t",
    before: "t",
    limit: "u",
    properties: "as",
  });
  const owner = dictValue(dict, "uid", "u") ?? uid;
  const allUsers = dictValue(dict, "all-users", "b") ?? false;
  const history = dictValue(dict, "history", "b") ?? false;
  const token = dictValue(dict, "token", "s");
  const query = {
    uid: allUsers ? null : owner,
    history,
    states: statesOf(dictValue(dict, "states", "as")),
    token: token === undefined || token === "" ? null : tokenOf(token),
    sinceUs: timeOf(dict, "since"),
    beforeUs: timeOf(dict, "before"),
    limit: Math.min(dictValue(dict, "limit", "u") ?? mostJobs, mostJobs, history ? historyPage : mostJobs),
  };
  return { query, allUsers };
}

/** The properties that a listing is to have; undefined: all. Throws bad-option. */
export function wantedProperties(dict: VariantDict): readonly JobProperty[] | undefined {
  return dictValue(dict, "properties", "as")?.map((name) => {
    if (isJobProperty(name)) return name;
    throw new CopyError("bad-option", `option 'properties' names the properties of a job, not '${excerpt(name)}'`);
  });
}

/** Throws unknown-option or bad-option. */
export function statisticsQueryOf(by: string, dict: VariantDict, uid: number, mostRows: number): Asked<StatisticsQuery> {
  checkKeys(dict, { "all-users": "b", since: "t", until: "t", order: "s", limit: "u" });
  const allUsers = dictValue(dict, "all-users", "b") ?? false;
  const query = {
    by: oneOf("by", by, statisticsKeys) ?? "day",
    uid: allUsers ? null : uid,
    sinceUs: timeOf(dict, "since"),
    untilUs: timeOf(dict, "until"),
    order: oneOf("order", dictValue(dict, "order", "s"), statisticsOrders) ?? "latest",
    limit: Math.min(dictValue(dict, "limit", "u") ?? mostRows, mostRows),
  } as const;
  return { query, allUsers };
}

export function encodeStatistics(by: StatisticsQuery["by"], row: StatisticsRow): Map<string, Variant> {
  const rate = row.elapsedUs === 0 ? 0 : Math.round((row.bytes / row.elapsedUs) * 1e6);
  return new Map([
    [by, keyOf(by, row.key)],
    ["jobs", new Variant("u", row.jobs)],
    ["completed", new Variant("u", row.completed)],
    ["failed", new Variant("u", row.failed)],
    ["cancelled", new Variant("u", row.cancelled)],
    ["files", new Variant("t", row.files)],
    ["bytes", new Variant("t", row.bytes)],
    ["errors", new Variant("t", row.errors)],
    ["elapsed", new Variant("t", row.elapsedUs)],
    ["rate", new Variant("t", rate)],
  ]);
}

function keyOf(by: StatisticsQuery["by"], key: StatisticsRow["key"]): Variant {
  switch (by) {
    case "day":
      return new Variant("s", key);
    case "user":
      return new Variant("u", Number(key));
    case "source":
    case "destination":
      return new Variant("ay", pathBytes(key));
  }
}

/** A time that no number holds exactly is after every job. */
function timeOf(dict: VariantDict, key: string): number | null {
  const time = dictValue(dict, key, "t");
  return time === undefined ? null : Math.min(Number(time), Number.MAX_SAFE_INTEGER);
}

function statesOf(given: readonly string[] | undefined): readonly JobState[] | null {
  if (given === undefined) return null;
  const unknown = given.find((state) => !(jobStates as readonly string[]).includes(state));
  if (unknown === undefined) return given as readonly JobState[];
  const known = jobStates.map((state) => `'${state}'`).join(", ");
  throw new CopyError("bad-option", `option 'states' takes ${known}, not '${excerpt(unknown)}'`);
}
