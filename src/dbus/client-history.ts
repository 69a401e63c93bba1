// ListJobs and GetStatistics as a client asks and reads them.

import type { JobState, StatisticsQuery, StatisticsRow } from "../jobs/api.ts";
import { pathFrom } from "./client-views.ts";
import type { JobProperty } from "./contract.ts";
import { Variant, type VariantDict } from "./values.ts";

/** Which jobs are wanted; what is left out is not asked about. Times are microseconds of CLOCK_REALTIME. */
export interface ListOptions {
  readonly allUsers?: boolean;
  /** This user's, instead of the caller's. */
  readonly uid?: number;
  readonly states?: readonly JobState[];
  /** How the token begins. */
  readonly token?: string;
  /** Also those that ended longer ago. */
  readonly history?: boolean;
  readonly since?: number;
  readonly before?: number;
  /** The newest of them. */
  readonly limit?: number;
  /** Only these properties; a view reads as if the others had not been told. */
  readonly properties?: readonly JobProperty[];
}

export interface StatisticsOptions {
  readonly allUsers?: boolean;
  readonly since?: number;
  readonly until?: number;
  readonly order?: StatisticsQuery["order"];
  readonly limit?: number;
}

export type Statistics = StatisticsRow & {
  /** Bytes a second. */
  readonly rate: number;
};

const signatures = {
  allUsers: ["all-users", "b"],
  uid: ["uid", "u"],
  states: ["states", "as"],
  token: ["token", "s"],
  history: ["history", "b"],
  since: ["since", "t"],
  until: ["until", "t"],
  before: ["before", "t"],
  order: ["order", "s"],
  limit: ["limit", "u"],
  properties: ["properties", "as"],
} as const;

export function encodeListOptions(options: ListOptions | StatisticsOptions): Map<string, Variant> {
  const dict = new Map<string, Variant>();
  for (const [field, value] of Object.entries(options)) {
    const [key, signature] = signatures[field as keyof typeof signatures];
    if (value !== undefined) dict.set(key, new Variant(signature, value));
  }
  return dict;
}

export function statisticsFrom(by: StatisticsQuery["by"], dict: VariantDict): Statistics {
  const number = (name: string): number => Number(dict.get(name)?.value ?? 0);
  const key = dict.get(by)?.value;
  return {
    key: Buffer.isBuffer(key) ? pathFrom(key) : (String(key ?? "") as StatisticsRow["key"]),
    jobs: number("jobs"),
    completed: number("completed"),
    failed: number("failed"),
    cancelled: number("cancelled"),
    files: number("files"),
    bytes: number("bytes"),
    errors: number("errors"),
    elapsedUs: number("elapsed"),
    rate: number("rate"),
  };
}
