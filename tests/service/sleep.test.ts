// Suspend and shutdown: copies stand still while the machine sleeps, are stopped in order before it goes down, and logind waits for both.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { byteStringFromText } from "../../src/bytes.ts";
import { connectService } from "../../src/dbus/client.ts";
import { MessageType } from "../../src/dbus/codec.ts";
import type { BusConnection } from "../../src/dbus/connection.ts";
import { Variant } from "../../src/dbus/values.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { privateBus, whyNoBus } from "../support/bus.ts";
import { startDaemon } from "../support/daemon.ts";
import { bootMachine, type Machine, whyNoMachine } from "../support/machine.ts";
import { havePrograms, type RunResult, runChecked } from "../support/process.ts";
import { describeUnless, firstReason, testUnless, unlessRoot } from "../support/skip.ts";

const repository = join(import.meta.dir, "../..");
const bootMs = 120_000;

function say(login: BusConnection, member: "PrepareForSleep" | "PrepareForShutdown", begins: boolean): void {
  const place = { path: "/org/freedesktop/login1", interface: "org.freedesktop.login1.Manager" };
  login.send({ type: MessageType.signal, ...place, member, signature: "b", body: [begins] });
}

for (const kind of ["system", "session"] as const) {
  testUnless(
    firstReason(unlessRoot(), whyNoBus()),
    `on a ${kind} bus, copies stand still from logind's word to its next, and a shutdown stops them in order`,
    async () => {
      await using bus = await privateBus({ kind: "system" });
      const login = await bus.connect();
      answerWith(login, [false]);
      await login.callDriver("RequestName", "su", ["org.freedesktop.login1", 4]);
      const impostor = await bus.connect();
      await using daemon = await startDaemon(bus, kind === "session" ? ["--session"] : []);
      writeFileSync(`${bus.directory}/large`, Buffer.alloc(64 * 1024 * 1024, 1));
      using client = await connectService({ address: bus.address });
      const request = requestSchema.parse({
        operation: "copy",
        sources: [byteStringFromText(`${bus.directory}/large`)],
        destination: byteStringFromText(`${bus.directory}/copy`),
        options: { bandwidthLimit: 4 * 1024 * 1024, engine: "read-write", durability: "none" },
      });
      const { token } = await client.submit(request);
      const paused = await client.submit({ ...request, destination: byteStringFromText(`${bus.directory}/paused`) });
      await until(async () => (await client.show(token)).bytesDone > 0 && (await client.show(paused.token)).bytesDone > 0);
      await client.pause(paused.token);
      await until(async () => (await client.show(paused.token)).state === "paused");

      say(impostor, "PrepareForSleep", true);
      const first = (await client.show(token)).bytesDone;
      await until(async () => (await client.show(token)).bytesDone > first);
      expect(await daemon.log()).not.toContain("goes to sleep");

      say(login, "PrepareForSleep", true);
      await until(async () => (await client.show(token)).state === "paused");
      const still = (await client.show(token)).bytesDone;
      const later = await client.submit({ ...request, destination: byteStringFromText(`${bus.directory}/later`) });
      // Going on, it would come by 6 MiB. What two lanes had in flight may still be counted, and what the last snapshot did not know.
      await Bun.sleep(1_500);
      const stillThere = (await client.show(token)).bytesDone;
      expect(stillThere - still).toBeLessThanOrEqual(2 * 1024 * 1024);
      expect((await client.show(later.token)).state).toBe("queued");

      say(login, "PrepareForSleep", false);
      await until(async () => (await client.show(token)).bytesDone > stillThere + 1024 * 1024);
      await until(async () => (await client.show(later.token)).bytesDone > 0);
      // What its owner had paused stays paused.
      expect((await client.show(paused.token)).state).toBe("paused");

      say(login, "PrepareForShutdown", true);
      expect(await daemon.exited).toBe(0);
      expect(await daemon.log()).toContain('reason="the machine shuts down"');
      expect(await daemon.log()).not.toContain("did not stop in time");
    },
    60_000,
  );
}

/** A logind that is asked whether the machine shuts down, and answers so; null: not at all. */
function answerWith(login: BusConnection, answers: readonly (boolean | null)[]): { readonly asked: () => number } {
  let asked = 0;
  login.onMessage(({ type, member, serial, sender }) => {
    if (type !== MessageType.call || member !== "Get") return;
    const answer = answers[Math.min(asked++, answers.length - 1)] ?? null;
    if (answer === null) return;
    login.send({ type: MessageType.return, replySerial: serial, destination: sender, signature: "v", body: [new Variant("b", answer)] });
  });
  return { asked: () => asked };
}

for (const [what, answers, begins] of [
  ["shuts down", [true], false],
  ["shuts down, says logind when it is asked again", [null, true], false],
  ["stays up, says logind when it is asked again", [null, false], true],
  ["says nothing of it", [null], true],
] as const)
  testUnless(
    firstReason(unlessRoot(), whyNoBus()),
    `a service that starts while the machine ${what} ${begins ? "begins" : "does not begin"} its jobs`,
    async () => {
      await using bus = await privateBus({ kind: "system" });
      const login = await bus.connect();
      const { asked } = answerWith(login, answers);
      await login.callDriver("RequestName", "su", ["org.freedesktop.login1", 4]);
      await using daemon = await startDaemon(bus);
      writeFileSync(`${bus.directory}/file`, "content");
      using client = await connectService({ address: bus.address });
      const [source, destination] = ["file", "copy"].map((name) => byteStringFromText(`${bus.directory}/${name}`));
      const { token } = await client.submit(requestSchema.parse({ operation: "copy", sources: [source], destination, options: {} }));
      const state = async (): Promise<string> => (await client.show(token)).state;
      const isSilent = answers[0] === null;
      // Longer than logind is first waited for.
      if (isSilent || !begins) {
        await Bun.sleep(isSilent && begins ? 1_000 : 3_500);
        expect(await state()).toBe("queued");
      }
      if (begins) await until(async () => (await state()) === "completed");
      expect(asked()).toBe(answers.length === 1 && isSilent ? 5 : answers.length);
      daemon.kill("SIGTERM");
      expect(await daemon.exited).toBe(0);
      expect(existsSync(`${bus.directory}/copy`)).toBe(begins);
    },
    60_000,
  );

const missing = havePrograms("systemd-inhibit") ? null : "systemd-inhibit is not installed";
describeUnless(firstReason(whyNoMachine(), missing), "with the real logind", () => {
  let machine: Machine;
  const shell = (script: string): Promise<RunResult> => machine.run(["sh", "-c", script], { timeoutMs: 60_000 });
  const locks = async (): Promise<string> => (await shell("systemd-inhibit --list --no-legend --no-pager")).stdout;
  beforeAll(async () => {
    await runChecked([process.execPath, "scripts/build.ts"], { cwd: repository, timeoutMs: bootMs });
    machine = await bootMachine([], async (root) => {
      await runChecked(["make", "-o", "dist/copyd", "install", `DESTDIR=${root}`, "PREFIX=/usr"], { cwd: repository, timeoutMs: bootMs });
      mkdirSync(join(root, "etc/systemd/logind.conf.d"), { recursive: true });
      writeFileSync(join(root, "etc/systemd/logind.conf.d/copyd-test.conf"), "[Login]\nInhibitDelayMaxSec=60\n");
    });
    await shell("head -c 64M /dev/zero > /srv/large; systemctl start systemd-logind");
  }, bootMs);
  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
  });
  const copy = (name: string): Promise<RunResult> =>
    shell(
      `busctl call org.copyd.Copyd1 /org/copyd/Copyd1 org.copyd.Copyd1.Manager CopyUris 'assa{sv}' 1 /srv/large /srv/${name} 2 token s ${name} bandwidth-limit t 4000000`,
    );
  const job = (name: string, method: string): Promise<RunResult> =>
    shell(`busctl call org.copyd.Copyd1 /org/copyd/Copyd1/jobs/u0/${name} org.copyd.Copyd1.Job ${method} 'a{sv}' 0`);

  test("a delay lock is held while a job runs and given back when it has ended, or when the service is killed", async () => {
    expect(await locks()).not.toContain("copyd");
    expect((await copy("first")).status).toBe(0);
    await until(async () => /^copyd .*(sleep:shutdown|shutdown:sleep).* delay\s*$/m.test(await locks()));
    await job("first", "Cancel");
    await until(async () => !(await locks()).includes("copyd"));
    await copy("second");
    await until(async () => (await locks()).includes("copyd"));
    await shell("systemctl kill --kill-whom=main --signal=KILL copyd.service");
    await until(async () => !(await locks()).includes("copyd") || (await shell("systemctl is-active copyd")).stdout === "active\n");
    await shell("systemctl stop copyd.service");
    await until(async () => !(await locks()).includes("copyd"));
  });

  test("a shutdown waits until the jobs are stopped in order", async () => {
    await copy("third");
    await until(async () => (await locks()).includes("copyd"));
    // A lock of our own keeps the machine up to be looked at.
    await shell("systemd-run --quiet systemd-inhibit --what=shutdown --mode=delay --who=looker --why=test sleep 50");
    await until(async () => (await locks()).includes("looker"));
    await shell("busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager PowerOff b false");
    await until(async () => (await shell("journalctl --unit=copyd --no-pager --output=cat")).stdout.includes("the machine shuts down"));
    await until(async () => !(await locks()).includes("copyd"));
    const { stdout } = await shell("journalctl --unit=copyd --no-pager --output=cat");
    expect(stdout).not.toContain("did not stop in time");
    expect((await shell("pgrep -f '[c]opyd worker'")).stdout).toBe("");
    expect((await shell("ls -A /srv")).stdout).not.toContain(".copyd-");
  });
});

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!(await isSo())) {
    if (performance.now() > deadlineMs) throw new Error(`waited for 30 s in vain: ${isSo}`);
    await Bun.sleep(50);
  }
}
