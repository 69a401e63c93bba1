// A worker that copies nothing: it speaks the protocol, well or badly, as the last source of its request says.
//
// /test/MODE?KEY=VALUE&... as the first source chooses; the modes are listed in `modes` below. With then=MODE, a worker that goes on with
// a job is of that mode.

import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync, writeSync } from "node:fs";
import { emptySnapshot, encodeFrame, FrameDecoder, maxParentFrameBytes, type Snapshot } from "../../src/worker/protocol.ts";
import { parentMessageSchema } from "../../src/worker/protocol-schema.ts";
import { writeWhole } from "../../src/worker/write-whole.ts";

type Message = ReturnType<FrameDecoder<ReturnType<typeof parentMessageSchema.parse>>["push"]>[number];

const base: Snapshot = {
  ...emptySnapshot,
  phase: "copying",
  totalsValid: true,
  bytesTotal: 1000,
  filesTotal: 10,
  currentFile: "/some/file" as Snapshot["currentFile"],
  engine: "read-write",
  lanes: 1,
};
let snapshot: Snapshot = base;

function send(message: Parameters<typeof encodeFrame>[0]): void {
  raw(encodeFrame(message));
}

/** Blocking: stdout is a socket, and what a mode sends must be sent before it does the next thing. */
function raw(bytes: Uint8Array): void {
  try {
    writeWhole(1, bytes);
  } catch (cause) {
    // Its parent was killed.
    if (!(stays && cause instanceof Error && "code" in cause && cause.code === "EPIPE")) throw cause;
  }
}

function tell(changes: Partial<Snapshot> = {}): void {
  snapshot = { ...snapshot, ...changes };
  send({ type: "snapshot", snapshot });
}

function result(outcome: "completed" | "failed" | "cancelled" | "interrupted", changes: Partial<Snapshot> = {}): void {
  snapshot = { ...snapshot, ...changes };
  send({ type: "result", outcome, snapshot, engines: { "read-write": snapshot.filesDone }, reasons: ["a test"] });
}

function error(code = "source-unreadable"): Parameters<typeof encodeFrame>[0] {
  const path = "/some/file" as Snapshot["currentFile"];
  const message = "cannot open '/some/file' for reading: Permission denied";
  return {
    type: "errors",
    errors: [{ path, side: "source", code, errno: 13, syscall: "openat", message, severity: "error", engine: "", offset: -1 }],
  };
}

function hello(changes: { uid?: number; pid?: number } = {}): void {
  const status = readFileSync("/proc/self/status", "latin1");
  const field = (name: string): string => new RegExp(`^${name}:[ \\t]*(.*)$`, "m").exec(status)?.[1]?.trim() ?? "";
  const first = (name: string): number => Number(field(name).split("\t")[0]);
  const groups = field("Groups").split(" ").filter(Boolean).map(Number);
  const identity = { uid: changes.uid ?? first("Uid"), gid: first("Gid"), groups, capabilities: field("CapEff") };
  send({ type: "hello", pid: changes.pid ?? process.pid, identity, landlockAbi: 0 });
}

function attempt(action: () => string): string {
  try {
    return action();
  } catch (cause) {
    return String(cause);
  }
}

function exit(status = 0): void {
  process.exit(status);
}

function dieNow(): void {
  process.kill(process.pid, "SIGKILL");
}

/** Paused, resumed, answered and cancelled like a real one, for as long as nobody cancels it. */
function run(): void {
  hello();
  tell();
  const beat = setInterval(() => tell({ bytesDone: Math.min(1000, snapshot.bytesDone + (snapshot.paused ? 0 : 10)) }), 50);
  const asked = parameters.get("ask") !== null;
  if (asked) {
    const path = "/some/file" as Snapshot["currentFile"];
    send({
      type: "question",
      question: 7,
      kind: "conflict",
      source: path,
      destination: path,
      filesystem: "" as typeof path,
      neededBytes: -1,
      freeBytes: -1,
      message: "overwrite '/some/file'? ",
    });
  }
  onMessage = (message) => {
    if (message.type === "pause") tell({ paused: true });
    if (message.type === "resume") tell({ paused: false });
    if (message.type === "set-options") tell({ currentFile: `/limit/${message.bandwidthLimit}` as Snapshot["currentFile"] });
    if (message.type === "stop") {
      clearInterval(beat);
      result("interrupted");
      exit();
    }
    if (message.type !== "cancel" && message.type !== "answer") return;
    clearInterval(beat);
    result(message.type === "cancel" ? "cancelled" : "completed", { bytesDone: 1000, filesDone: 10 });
    exit();
  };
}

const modes: Record<string, () => void> = {
  well: () => {
    hello();
    tell({ bytesDone: 500, filesDone: 5 });
    result("completed", { bytesDone: 1000, filesDone: 10 });
    exit();
  },
  run,
  errors: () => {
    hello();
    for (let count = Number(parameters.get("count") ?? 1); count > 0; count--) send(error());
    result((parameters.get("outcome") ?? "failed") as "failed");
    exit();
  },
  "fails-without-error": () => {
    hello();
    result("failed");
    exit();
  },
  "cancelled-unasked": () => {
    hello();
    result("cancelled");
    exit();
  },
  dies: () => {
    hello();
    writeSync(3, "something in flight", 0);
    tell({ bytesDone: 500 });
    dieNow();
  },
  "eats-memory": () => {
    hello();
    const eaten: Buffer[] = [];
    for (;;) eaten.push(Buffer.alloc(4 << 20, eaten.length + 1));
  },
  "starts-processes": () => {
    hello();
    for (let count = Number(parameters.get("count")); count > 0; count--)
      Bun.spawn({ cmd: ["sleep", "4"], stdio: ["ignore", "ignore", "ignore"] });
    result("completed");
    exit();
  },
  "killed-by-hand": () => {
    hello();
    dieNow();
  },
  "exits-without-result": () => {
    hello();
    exit(3);
  },
  "never-starts": () => {
    process.stderr.write("no such\u001blibrary\n");
    exit(4);
  },
  "fails-in-its-runtime": () => {
    process.stderr.write("12 | dlopen(path)\nerror: no room for a library\n\nBun v1\n");
    exit(1);
  },
  "fails-later": () => {
    hello();
    process.stderr.write("a word before\nerror: no room for a thread\nBun v1\n");
    exit(1);
  },
  silent: () => {
    hello();
    setInterval(() => undefined, 1000);
  },
  deaf: () => {
    hello();
    process.kill(process.pid, "SIGSTOP");
  },
  floods: () => {
    hello();
    for (;;) tell();
  },
  "floods-stderr": () => {
    hello();
    for (let line = 0; line < 5000; line++) writeSync(2, `${"x".repeat(3000)}\n`);
    result("completed");
    exit();
  },
  oversized: () => {
    hello();
    raw(new Uint8Array([0xff, 0xff, 0xff, 0x7f, 1, 2, 3]));
    setInterval(() => tell(), 50);
  },
  "not-json": () => {
    hello();
    raw(new Uint8Array([3, 0, 0, 0, 0x7b, 0x7b, 0x7b]));
    setInterval(() => tell(), 50);
  },
  "not-the-schema": () => {
    hello();
    const body = Buffer.from('{"type":"snapshot","snapshot":{"__proto__":1,"bytesDone":-1}}');
    raw(new Uint8Array([body.length, 0, 0, 0]));
    raw(body);
    setInterval(() => tell(), 50);
  },
  "unknown-code": () => {
    hello();
    send(error("made-up"));
    setInterval(() => tell(), 50);
  },
  "no-hello": () => {
    tell();
    setInterval(() => tell(), 50);
  },
  "two-hellos": () => {
    hello();
    hello();
    setInterval(() => tell(), 50);
  },
  "wrong-identity": () => {
    hello({ uid: 12345 });
    setInterval(() => tell(), 50);
  },
  "wrong-pid": () => {
    hello({ pid: 1 });
    setInterval(() => tell(), 50);
  },
  refuses: () => {
    send({ type: "fatal", code: "worker-identity", message: "not who I should be" });
    setInterval(() => undefined, 1000);
  },
  "refuses-oddly": () => {
    send({ type: "fatal", code: "__proto__", message: "odd" });
    setInterval(() => undefined, 1000);
  },
  "lies-backwards": () => {
    hello();
    tell({ bytesDone: 900, filesDone: 9, bytesTotal: 1000, phase: "flushing" });
    tell({ bytesDone: 1, filesDone: 1, bytesTotal: 5, phase: "scanning", totalsValid: false });
    result("completed", { bytesDone: 2, filesDone: 2, errorCount: 4 });
    exit();
  },
  "stays-after-result": () => {
    hello();
    result("completed");
    stays = true;
    setInterval(() => undefined, 1000);
  },
  "holds-nothing": () => {
    hello();
    send({ type: "result", outcome: "completed", snapshot, reasons: [], holdsNothing: true });
    stays = true;
    setInterval(() => undefined, 1000);
  },
  "talks-after-result": () => {
    hello();
    result("completed");
    send(error());
    result("failed");
    exit();
  },
  "ignores-cancel": () => {
    hello();
    setInterval(() => tell(), 50);
  },
  "leaves-a-child": () => {
    hello();
    Bun.spawn({ cmd: ["setsid", "sleep", parameters.get("seconds") ?? "4"], stdio: ["ignore", "inherit", "inherit"] });
    // Until it has left the group of processes in which it would be killed with us.
    Bun.sleepSync(200);
    result("completed");
    exit();
  },
  /** Writes what it finds itself to be into the file that the destination names. */
  reports: () => {
    hello();
    const descriptors = readdirSync("/proc/self/fd").map((fd) => attempt(() => `${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`));
    const status = readFileSync("/proc/self/status", "latin1");
    const reads = parameters.get("reads");
    const read = reads === null ? "" : attempt(() => readFileSync(reads, "utf8"));
    const report = { read, status, cwd: process.cwd(), environment: process.env, descriptors, arguments: process.argv, request };
    writeFileSync(parameters.get("to") ?? request.destination, JSON.stringify(report));
    result("completed");
    exit();
  },
};

/** Also when its parent has closed its input. */
let stays = false;
let onMessage: (message: Message) => void = () => undefined;
let request: Extract<Message, { type: "start" }>["request"];
let parameters = new URLSearchParams();

const decoder = new FrameDecoder(parentMessageSchema, maxParentFrameBytes);
for await (const chunk of Bun.stdin.stream()) {
  for (const message of decoder.push(chunk)) {
    if (message.type === "start") {
      request = message.request;
      const [mode, query] = (request.sources[0] ?? "").replace("/test/", "").split("?");
      parameters = new URLSearchParams(query);
      stays = parameters.has("stays");
      const then = message.checkpoint?.isResumed === true ? parameters.get("then") : null;
      (modes[then ?? mode ?? ""] ?? run)();
    } else if (message.type === "recover") {
      hello();
      writeFileSync(message.inFlightFd, "recovered");
      const { destination } = message.request;
      const fails = destination.endsWith("/unrecoverable") && !existsSync(`${destination.slice(0, -"/unrecoverable".length)}/recoverable`);
      result(fails ? "failed" : "completed");
      exit();
    } else onMessage(message);
  }
}
if (!stays) exit();
