// The frozen request of one job: what was asked, after parsing and before anything is opened. A leaf that every layer shares.
//
// The schemas lie apart: loading zod and building them takes longer than copying a small file, and each thread would do it anew.

import type { z } from "zod";
import type { namesSchema, optionsSchema, requestSchema } from "./request-schema.ts";

/** Longest path accepted from a caller, in bytes. The tree below may be deeper: the walk works by directory descriptors. */
export const maxPathBytes = 4095;
export const conflictPolicies = ["fail", "skip", "overwrite", "newer", "differs", "rename", "ask"] as const;
export const preserveAttributes = ["mode", "times", "owner", "xattr", "acl", "hardlinks", "links", "sparse"] as const;
export const symlinkPolicies = ["copy", "follow", "follow-arguments"] as const;
export const engineNames = ["reflink", "copy-file-range", "io-uring", "splice", "read-write"] as const;
export const engineChoices = ["auto", ...engineNames] as const;
export const verifyMethods = ["none", "size", "xxh3", "blake3", "sha256", "md5", "crc32"] as const;
export const durabilities = ["none", "file", "job"] as const;
export const troublePolicies = ["ask", "fail"] as const;
export const priorities = ["low", "normal", "high", "now"] as const;

export type ConflictPolicy = (typeof conflictPolicies)[number];
export type PreserveAttribute = (typeof preserveAttributes)[number];
export type EngineName = (typeof engineNames)[number];
export type EngineChoice = (typeof engineChoices)[number];
export type Durability = (typeof durabilities)[number];

/** The command line behind a job of `copyd cp` or `copyd mv`. */
export type TypedNames = Readonly<z.infer<typeof namesSchema>>;

export type JobOptions = Readonly<z.infer<typeof optionsSchema>>;

/** One job as asked for. Frozen when parsed: nothing changes it while it waits, is authorized or runs. */
export type JobRequest = Readonly<z.infer<typeof requestSchema>>;
