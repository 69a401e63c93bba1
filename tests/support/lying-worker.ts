// A worker that its user has replaced: it says whatever harms most, in frames that the protocol allows. See also worker.ts.
//
// /test/MODE as the first source chooses what it does.

import { readFileSync, writeSync } from "node:fs";
import {
  emptySnapshot,
  encodeFrame,
  FrameDecoder,
  inFlightBytes,
  maxCheckpointBytes,
  maxParentFrameBytes,
  type ParentMessage,
  trustingParser,
} from "../../src/worker/protocol.ts";
import { checkpointChildFd, inFlightChildFd } from "../../src/worker/spawn.ts";
import { writeWhole } from "../../src/worker/write-whole.ts";

type Path = typeof emptySnapshot.currentFile;
type Outgoing = Parameters<typeof encodeFrame>[0];

const path = "/x" as Path;

function send(message: Outgoing): void {
  writeWhole(1, encodeFrame(message));
}

function frameOf(text: string): Uint8Array {
  const frame = Buffer.alloc(4 + text.length, text, "latin1");
  frame.writeUInt32LE(text.length, 0);
  frame.write(text, 4, "latin1");
  return frame;
}

function forever(message: () => Outgoing, pauseMs = 0): void {
  for (;;) {
    send(message());
    if (pauseMs > 0) Bun.sleepSync(pauseMs);
  }
}

/** The last byte that there may be, and, after a while, one more. */
function fill(fd: number, bytes: number): void {
  writeSync(fd, "x", bytes - 1);
  Bun.sleepSync(700);
  send({ type: "lines", lines: ["one more"] });
  writeSync(fd, "x", bytes);
  Bun.sleepSync(20_000);
}

function question(number: number, message: string): Outgoing {
  return {
    type: "question",
    question: number,
    kind: "conflict",
    source: path,
    destination: path,
    filesystem: "" as Path,
    neededBytes: -1,
    freeBytes: -1,
    message,
  };
}

const error = {
  path: "/p".repeat(2000) as Path,
  side: "source",
  code: "source-unreadable",
  errno: 13,
  syscall: "openat",
  message: "m".repeat(8000),
  severity: "error",
  engine: "",
  offset: -1,
} as const;
const operation = {
  action: "create",
  object: "file",
  source: "/s".repeat(2000) as Path,
  destination: "/d".repeat(2000) as Path,
  bytes: Number.MAX_SAFE_INTEGER,
  isHardLink: false,
  code: "",
  message: "",
} as const;
const counts = { create: Number.MAX_SAFE_INTEGER, overwrite: 0, merge: 0, skip: 0, rename: 0, ask: 0, fail: 0 };
const summary = {
  counts,
  files: Number.MAX_SAFE_INTEGER,
  directories: 0,
  bytes: Number.MAX_SAFE_INTEGER,
  conflicts: 0,
  spaceNeeded: 0,
  spaceFree: -1,
  listed: 1_000_000,
  isWhole: true,
};
let serial = 0;

const modes: Readonly<Record<string, () => void>> = {
  /** Below the rate that ends it, and never an answer taken. */
  "asks-on": () => forever(() => question(++serial, "x".repeat(16_000)), 20),
  "asks-fast": () => forever(() => question(++serial, "overwrite? ")),
  /** Questions that there are none of, each in a worker of its own. */
  "asks-nonsense": () => send({ ...question(1, "overwrite? "), kind: "nonsense" } as unknown as Outgoing),
  "asks-inherited": () => send({ ...question(1, "overwrite? "), kind: "__proto__" } as unknown as Outgoing),
  "asks-with-choices": () => send({ ...question(1, "overwrite? "), choices: ["abort"] } as unknown as Outgoing),
  "asks-minus-one": () => send(question(-1, "overwrite? ")),
  "asks-half": () => send(question(0.5, "overwrite? ")),
  "asks-nowhere": () => send({ ...question(1, "overwrite? "), destination: 7 } as unknown as Outgoing),
  /** A question that takes answers of one kind, and the same number once more for another. */
  "asks-twice": () => {
    send(question(1, "overwrite? "));
    Bun.sleepSync(300);
    send({ ...question(1, "room? "), kind: "space" } as Outgoing);
    Bun.sleepSync(20_000);
  },
  /** Frames as large as they may be. */
  "large-errors": () => forever(() => ({ type: "errors", errors: Array.from({ length: 84 }, () => error) })),
  "large-lines": () => forever(() => ({ type: "lines", lines: Array.from({ length: 16 }, () => "l".repeat(65_000)) })),
  "large-paths": () =>
    forever(() => ({ type: "snapshot", snapshot: { ...emptySnapshot, currentFile: `/${"c".repeat(48_000)}${++serial}` as Path } })),
  /** As long as many small frames may be at once, and a pipe that is never empty. */
  "small-errors": () => forever(() => ({ type: "errors", errors: Array.from({ length: 240 }, () => ({ ...error, message: "m" })) }), 1),
  /** Frames that take long to understand: as many objects, levels or fields as fit. */
  "many-objects": () => send({ type: "errors", errors: Array.from({ length: 340_000 }, () => ({})) } as unknown as Outgoing),
  "many-levels": () => writeWhole(1, frameOf(`{"type":"lines","lines":${"[".repeat(500_000)}${"]".repeat(500_000)}}`)),
  "many-fields": () =>
    send({ type: "preview", summary: { counts: Object.fromEntries(Array.from({ length: 80_000 }, (_, i) => [`k${i}`, 1])) } } as never),
  backwards: () => {
    for (const bytesDone of [900, 10, 500, 0, 950, 1]) {
      send({
        type: "snapshot",
        snapshot: { ...emptySnapshot, phase: "copying", totalsValid: true, bytesTotal: 1000, bytesDone, filesDone: bytesDone },
      });
      Bun.sleepSync(20);
    }
    send({ type: "result", outcome: "completed", snapshot: { ...emptySnapshot, bytesDone: 3 }, engines: {}, reasons: [] });
  },
  /** Through the descriptors that it was given, to files that are not its user's. */
  "fills-record": () => fill(inFlightChildFd, inFlightBytes),
  "fills-checkpoint": () => fill(checkpointChildFd, maxCheckpointBytes),
  "operations-on": () => forever(() => ({ type: "operations", operations: Array.from({ length: 100 }, () => operation) })),
  "summary-lies": () => send({ type: "preview", summary }),
  "wrong-words": () => {
    send({ type: "errors", errors: [error] });
    send(question(1, "overwrite? "));
    send({ type: "result", outcome: "completed", snapshot: emptySnapshot, engines: {}, reasons: [] });
  },
};

const decoder = new FrameDecoder(trustingParser<ParentMessage>(), maxParentFrameBytes);
for await (const chunk of Bun.stdin.stream()) {
  for (const message of decoder.push(chunk)) {
    // It removes nothing of what its predecessor left.
    if (message.type === "recover") process.exit(1);
    if (message.type !== "start" && message.type !== "preview") continue;
    const field = (name: string): string =>
      new RegExp(`^${name}:\\s*(\\S+)`, "m").exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? "";
    const identity = { uid: Number(field("Uid")), gid: Number(field("Gid")), groups: [], capabilities: field("CapEff") };
    send({ type: "hello", pid: process.pid, identity, landlockAbi: 0 });
    modes[(message.request.sources[0] ?? "").replace("/test/", "")]?.();
    if (message.type === "preview") send({ type: "result", outcome: "completed", snapshot: emptySnapshot, engines: {}, reasons: [] });
    process.exit(0);
  }
}
