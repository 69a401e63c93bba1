// Questions end to end: a full disk asks over a real bus, is answered there, by `copyd answer` or on a terminal, and over a restart.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connectService, type ServiceClient } from "../../src/dbus/client.ts";
import { CopyError } from "../../src/errors.ts";
import type { JobView, Question } from "../../src/jobs/api.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { type PrivateBus, privateBus, whyNoBus } from "../support/bus.ts";
import { copydCommand, plainEnvironment, runCopyd } from "../support/cli.ts";
import { type DaemonProcess, startDaemon } from "../support/daemon.ts";
import { mountFilesystem, type TestFilesystem, tinySizeBytes, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms } from "../support/process.ts";
import { describeUnless, firstReason, testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const mebibyte = 1024 * 1024;
const noTerminal = havePrograms("script") ? null : "script (util-linux) is not installed";

describeUnless(firstReason(whyNoBus(), whyNoFilesystem("tmpfs")), "questions of a full disk", () => {
  let bus: PrivateBus;
  let daemon: DaemonProcess;
  let client: ServiceClient;
  let source: TemporaryDirectory;
  let disk: TestFilesystem;
  let env: Record<string, string>;
  let serial = 0;

  beforeAll(async () => {
    bus = await privateBus({ kind: "system" });
    daemon = await startDaemon(bus);
    client = await connectService({ address: bus.address });
    source = await temporaryDirectory();
    disk = await mountFilesystem("tmpfs", { sizeBytes: tinySizeBytes });
    env = { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: bus.address };
    for (const name of ["b", "c"]) writeFileSync(`${source.path}/${name}`, randomBytes(16 * mebibyte));
    writeFileSync(`${source.path}/a`, "new");
    writeFileSync(`${source.path}/d`, "new");
  });
  afterAll(async () => {
    client.close();
    await daemon[Symbol.asyncDispose]();
    await bus[Symbol.asyncDispose]();
    await disk[Symbol.asyncDispose]();
    await source[Symbol.asyncDispose]();
  });

  const paths = (names: string): string[] => [...names].map((name) => `${source.path}/${name}`);
  const copyd = (...line: string[]) => runCopyd(line, { env });

  function emptyDisk(ballastBytes: number, old: string): void {
    for (const name of readdirSync(disk.path)) rmSync(`${disk.path}/${name}`, { recursive: true });
    writeFileSync(`${disk.path}/ballast`, randomBytes(ballastBytes));
    mkdirSync(`${disk.path}/to`);
    for (const name of old) writeFileSync(`${disk.path}/to/${name}`, "old");
  }

  /** Begins a copy to the disk, which holds so much ballast and the old files named. */
  async function begin(names: string, ballastBytes: number, options: object = {}, old = ""): Promise<string> {
    emptyDisk(ballastBytes, old);
    const request = { operation: "copy", sources: paths(names), destination: `${disk.path}/to`, options: { onFull: "ask", ...options } };
    return (await client.submit(requestSchema.parse(request), { token: `full${++serial}` })).token;
  }

  async function until(token: string, holds: (view: JobView) => boolean): Promise<JobView> {
    const deadline = performance.now() + 40_000;
    for (;;) {
      const view = await client.show(token);
      if (holds(view)) return view;
      if (view.result !== null || performance.now() > deadline) throw new Error(`${token}: ${view.state} ${Bun.inspect(view.question)}`);
      await Bun.sleep(20);
    }
  }

  /** The next question of a kind after one of the number; what is foretold of the space is passed over. */
  async function asked(token: string, kind: Question["kind"], after = 0): Promise<Question> {
    let last = after;
    for (;;) {
      const { question } = await until(token, (view) => view.question !== null && view.question.id > last);
      if (question === null) throw new Error("a question was there");
      if (question.kind === kind) return question;
      expect(question.kind).toBe("space-low");
      await client.answer(token, question.id, "continue", { forAll: false });
      last = question.id;
    }
  }

  async function ended(token: string): Promise<JobView> {
    for (;;) {
      const view = await until(token, ({ result, question }) => result !== null || question?.kind === "space-low");
      if (view.result !== null) return view;
      await client.answer(token, view.question?.id ?? 0, "continue", { forAll: false });
    }
  }

  function refusal(call: Promise<void>): Promise<string> {
    return call.then(
      () => "taken",
      (error) => (error instanceof CopyError ? error.code : String(error)),
    );
  }

  test("Answer on the bus: what is no answer to it is refused, retry asks again, skip leaves one out, abort ends it", async () => {
    const token = await begin("abc", 8 * mebibyte);
    const first = await asked(token, "space");
    expect(first.filesystem as string).toBe(disk.path);
    expect(await refusal(client.answer(token, first.id, "overwrite", { forAll: false }))).toBe("invalid-arguments");
    expect(await refusal(client.answer(token, first.id, "nonsense", { forAll: true }))).toBe("invalid-arguments");
    expect(await refusal(client.answer(token, first.id + 1, "skip", { forAll: false }))).toBe("invalid-state");
    expect((await client.show(token)).question?.id).toBe(first.id);
    await client.answer(token, first.id, "retry", { forAll: true });
    // For all, retry holds once.
    const second = await asked(token, "space", first.id);
    expect(await refusal(client.answer(token, first.id, "skip", { forAll: false }))).toBe("invalid-state");
    await client.answer(token, second.id, "skip", { forAll: false });
    const third = await asked(token, "space", second.id);
    await client.answer(token, third.id, "abort", { forAll: false });
    expect((await ended(token)).state).toBe("cancelled");
    expect(readdirSync(`${disk.path}/to`)).toEqual(["a"]);
  });

  test("`copyd answer` shows the question, refuses other choices, and skips for all that come", async () => {
    const token = await begin("bcd", 8 * mebibyte);
    await asked(token, "space");
    const shown = await copyd("answer", token);
    expect([shown.status, shown.stdout]).toEqual([0, expect.stringMatching(/No space left.*retry.*skip.*abort/s)]);
    const refused = await copyd("answer", token, "overwrite");
    expect([refused.status, refused.stderr]).toEqual([
      1,
      expect.stringContaining("this question takes retry, skip, abort, not 'overwrite'"),
    ]);
    expect(await copyd("answer", token, "skip", "--for-all")).toMatchObject({ status: 0, stderr: "" });
    const end = await ended(token);
    expect([end.state, end.errorCount, end.filesDone]).toEqual(["failed", 2, 1]);
    expect((await copyd("errors", token)).stdout).toMatch(/No space left.*No space left/s);
    expect(readdirSync(`${disk.path}/to`)).toEqual(["d"]);
    expect((await copyd("answer", token, "skip")).stderr).toContain("asks nothing");
  });

  test("after room was made, the job ends whole", async () => {
    const token = await begin("ab", 8 * mebibyte);
    await asked(token, "space");
    rmSync(`${disk.path}/ballast`);
    // It may have seen the room by itself.
    await copyd("answer", token, "retry");
    expect((await ended(token)).state).toBe("completed");
    expect(readFileSync(`${disk.path}/to/b`).equals(readFileSync(`${source.path}/b`))).toBe(true);
  });

  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    test(`a job that asked when the service ended (${signal}) asks again; what was answered for all still holds`, async () => {
      const token = await begin("abd", 8 * mebibyte, { onConflict: "ask" }, "ad");
      const conflict = await asked(token, "conflict");
      await client.answer(token, conflict.id, "skip", { forAll: true });
      await asked(token, "space", conflict.id);
      daemon.kill(signal);
      await daemon.exited;
      daemon = await startDaemon(bus);
      client.close();
      client = await connectService({ address: bus.address });
      const again = await asked(token, "space");
      await client.answer(token, again.id, "skip", { forAll: false });
      const end = await ended(token);
      expect([end.state, end.errorCount, end.filesDone, end.resumeCount]).toEqual(["failed", 1, 0, 1]);
      expect(readdirSync(`${disk.path}/to`).sort()).toEqual(["a", "d"]);
      for (const name of "ad") expect(readFileSync(`${disk.path}/to/${name}`, "utf8")).toBe("old");
    });
  }

  for (const mode of ["--local", "--system"]) {
    testUnless(noTerminal, `cp ${mode} --on-full=ask on a terminal: asks, asks once more for what is no answer, and skips`, async () => {
      emptyDisk(8 * mebibyte, "");
      const where = mode === "--local" ? ["--local"] : [];
      const command = copydCommand("cp", ...where, "--on-full=ask", ...paths("bd"), `${disk.path}/to`);
      const line = command.map((word) => `'${word}'`).join(" ");
      const terminal = { ...env, TERM: "dumb", SHELL: "/bin/sh", XDG_RUNTIME_DIR: source.path };
      const screen = await onTerminal(`${line}; echo "status $?"`, terminal);
      expect(screen).toMatch(/No space left on device\. Make room at .*or abort\? .*retry, skip, abort\? .*status 1/s);
      expect(readdirSync(`${disk.path}/to`)).toEqual(["d"]);
    });
  }
});

/** Types what each prompt is to hear, and returns all that the terminal showed. */
async function onTerminal(line: string, env: Record<string, string>): Promise<string> {
  const child = Bun.spawn(["script", "-qec", line, "/dev/null"], {
    env,
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
    timeout: 50_000,
  });
  let screen = "";
  let read = 0;
  for await (const chunk of child.stdout) {
    screen += Buffer.from(chunk).toString("latin1");
    const prompt = /(too little space|Make room|retry, skip, abort\? )[^?]*(\? )?$/.exec(screen.slice(read));
    if (prompt === null || !screen.endsWith("? ")) continue;
    read = screen.length;
    child.stdin.write(prompt[1] === "too little space" ? "continue\n" : prompt[1] === "Make room" ? "perhaps\n" : "skip\n");
    child.stdin.flush();
  }
  await child.exited;
  return screen;
}
