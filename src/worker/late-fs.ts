// node:fs where only few come to: loading it takes a millisecond, in each process and each thread (tests/support/tidy.ts has who does without).

export const fs = (): typeof import("node:fs") => process.getBuiltinModule("node:fs");
