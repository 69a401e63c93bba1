// Suspend and shutdown: asks logind to wait a moment while jobs run, and has them stand still, or stopped in order, when it says so.
//
// The lock is a descriptor that logind gives, which our codec does not receive; systemd-inhibit takes it instead and holds it for as
// long as its child, a cat, reads from our pipe. When this process ends, however it ends, the pipe does, and so the lock.

import { existsSync } from "node:fs";
import { MessageType } from "../dbus/codec.ts";
import { type BusConnection, BusError, connectBus, driver } from "../dbus/connection.ts";
import { Variant } from "../dbus/values.ts";
import { log } from "../log.ts";

const login = { name: "org.freedesktop.login1", path: "/org/freedesktop/login1", interface: "org.freedesktop.login1.Manager" } as const;
const inhibitPath = "/usr/bin/systemd-inhibit";
/** A job that is over by then needs no lock, which takes two processes. Milliseconds. */
const lockAfterMs = 1_000;
/** How long logind may take to answer, milliseconds, and how often it is asked. */
const answerMs = 2_000;
const maxAsked = 5;

/** What is done about it. */
export interface SleepReactions {
  /** Whether jobs run now. */
  readonly isBusy: () => boolean;
  /** Stands still; resolves when all do. */
  readonly freeze: () => Promise<void>;
  readonly thaw: () => void;
  /** The machine shuts down. */
  readonly stop: () => void;
}

export class SleepGuard implements Disposable {
  private readonly connection: BusConnection;
  private readonly reactions: SleepReactions;
  private lock: Bun.Subprocess<"pipe", "ignore", "ignore"> | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private canLock = existsSync(inhibitPath);
  private isAsleep = false;
  /** logind's unique name: anybody may send us a message that looks like its. */
  private loginName = "";

  private constructor(connection: BusConnection, reactions: SleepReactions) {
    this.connection = connection;
    this.reactions = reactions;
  }

  /** On the system's bus, which logind is on, also for a session's service. null where there is no such bus. */
  static async start(address: string, reactions: SleepReactions): Promise<SleepGuard | null> {
    try {
      const guard = new SleepGuard(await connectBus(address), reactions);
      await guard.listen();
      return guard;
    } catch (cause) {
      log.info("nobody will say when the machine goes to sleep", { reason: cause instanceof Error ? cause.message : String(cause) });
      return null;
    }
  }

  /** To be called whenever jobs start or end. */
  update(): void {
    if (!this.reactions.isBusy()) {
      this.unlock();
    } else if (this.lock === null && this.canLock && !this.isAsleep) {
      this.timer ??= setTimeout(() => this.takeLock(), lockAfterMs);
    }
  }

  /**
   * Resolves when jobs may be begun: unless a shutdown has begun, and then never, for what is begun now is one more that is interrupted.
   * logind may be silent because it is busy with just that, so it is asked again; but a broken one is not waited for.
   */
  async untilUp(): Promise<void> {
    for (let asked = 0; asked < maxAsked; asked++) {
      const isShuttingDown = await this.isShuttingDown();
      if (isShuttingDown === true) await new Promise(() => undefined);
      if (isShuttingDown === false) return;
    }
    log.notice("logind does not say whether the machine shuts down: copies begin");
  }

  [Symbol.dispose](): void {
    this.unlock();
    this.connection.close();
  }

  /** null: logind does not answer. */
  private async isShuttingDown(): Promise<boolean | null> {
    if (this.loginName === "") return false;
    const { name: destination, path } = login;
    const call = { destination, path, interface: "org.freedesktop.DBus.Properties", member: "Get", signature: "ss" };
    try {
      const reply = await this.connection.call({ ...call, body: [login.interface, "PreparingForShutdown"] }, answerMs);
      const [value] = reply.body;
      return value instanceof Variant && value.value === true;
    } catch (cause) {
      return cause instanceof BusError && cause.dbusName === `${driver.name}.Error.NoReply` ? null : false;
    }
  }

  private async listen(): Promise<void> {
    const { connection } = this;
    connection.onMessage((message) => {
      if (message.type !== MessageType.signal || message.signature.startsWith("b") === false) {
        if (message.member === "NameOwnerChanged" && message.sender === driver.name) this.loginName = String(message.body[2] ?? "");
        return;
      }
      if (message.sender !== this.loginName || message.interface !== login.interface) return;
      const [begins] = message.body;
      if (message.member === "PrepareForSleep") void (begins === true ? this.fallAsleep() : this.wakeUp());
      if (message.member === "PrepareForShutdown" && begins === true) this.reactions.stop();
    });
    const from = `type='signal',sender='${login.name}',path='${login.path}',interface='${login.interface}'`;
    const owner = `type='signal',sender='${driver.name}',member='NameOwnerChanged',arg0='${login.name}'`;
    for (const rule of [owner, `${from},member='PrepareForSleep'`, `${from},member='PrepareForShutdown'`]) {
      await connection.callDriver("AddMatch", "s", [rule]);
    }
    // No owner: it has not been started yet, or there is none; NameOwnerChanged will tell.
    const reply = await connection.callDriver("GetNameOwner", "s", [login.name]).catch(() => null);
    if (reply !== null) this.loginName = String(reply.body[0] ?? "");
  }

  private async fallAsleep(): Promise<void> {
    this.isAsleep = true;
    log.notice("the machine goes to sleep: copies stand still");
    await this.reactions.freeze();
    // Only now: logind waits for it.
    this.unlock();
  }

  private wakeUp(): void {
    if (!this.isAsleep) return;
    this.isAsleep = false;
    log.notice("the machine is awake: copies go on");
    this.reactions.thaw();
    this.update();
  }

  private takeLock(): void {
    this.timer = undefined;
    if (!this.reactions.isBusy() || this.isAsleep || this.lock !== null) return;
    const options = ["--what=sleep:shutdown", "--mode=delay", "--who=copyd", "--why=Files are being copied"];
    const lock = Bun.spawn([inhibitPath, ...options, "/bin/cat"], {
      stdin: "pipe",
      stdout: "ignore",
      stderr: "ignore",
      env: environment(),
    });
    this.lock = lock;
    void lock.exited.then((status) => {
      if (this.lock !== lock) return;
      this.lock = null;
      // It ends before we end it where there is no logind, or it refuses.
      this.canLock = false;
      log.info("sleep and shutdown will not wait for copies", { reason: `systemd-inhibit ended with status ${status}` });
    });
  }

  private unlock(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const { lock } = this;
    this.lock = null;
    void lock?.stdin.end();
  }
}

/** Nothing of ours but which bus it is. */
function environment(): Record<string, string> {
  const { DBUS_SYSTEM_BUS_ADDRESS: address } = process.env;
  return { PATH: "/usr/bin:/bin", LANG: "C.UTF-8", ...(address === undefined ? {} : { DBUS_SYSTEM_BUS_ADDRESS: address }) };
}
