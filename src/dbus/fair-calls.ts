// Calls that wait for their turn, undecoded: one of each user after the other, so that nobody waits for another's flood.
//
// The bus hands on what it has in the order in which it came. Decoding the largest call takes some 20 ms, and whoever sends hundreds
// of them would hold up everybody; so calls are read from the bus at once, and decoded and carried out in turns. And whoever takes
// much of the service's time rests between turns, so that others mostly find it free.

import type { Message, MessageHeader } from "./codec.ts";

/** A call as it came: its header, and what gives the rest. */
export interface RawCall {
  readonly header: MessageHeader;
  readonly bytes: number;
  readonly decode: () => Message | "malformed" | "too-large";
}

export interface FairCallsDependencies {
  /** Whose turn a sender's calls count as. Never rejects. */
  readonly userOf: (sender: string) => Promise<number>;
  /** Begins to answer a call; what it does at once is what its turn costs. */
  readonly serve: (message: Message) => void;
  /** Whether the bus takes what is sent: large replies to one user would stand before the small ones to others. */
  readonly mayServe: () => boolean;
  readonly refuse: (header: MessageHeader, reason: "malformed" | "too-large" | "too-many") => void;
}

interface Turns {
  readonly calls: RawCall[];
  bytes: number;
}

/** Of one user; a call of the largest kind and many small ones fit. Beyond, calls are refused before anything is decoded. */
const maxWaitingCalls = 4096;
const maxWaitingBytes = 32 * 1024 * 1024;
/** How soon it is looked again whether the bus takes what was sent. */
const waitMs = 1;
/** How much of the service's time one user's calls may take, while others call as well and while nobody else does. */
const crowdedShare = 1 / 8;
const aloneShare = 1 / 2;
/** Others count as there for so long after their last call. */
const crowdMs = 2_000;
/** What a user may take beyond the share before it is time to rest: the calls of a program that copies something take far less. */
const freeMs = 30;
const longestRestMs = 250;

/** What a user's calls have taken, less what the share has given since. */
interface Account {
  debtMs: number;
  /** When the debt was that. */
  atMs: number;
  calledMs: number;
}

export class FairCalls {
  private readonly dependencies: FairCallsDependencies;
  /** Who was served longest ago first. */
  private readonly users = new Map<number, Turns>();
  private readonly accounts = new Map<number, Account>();
  private served: { readonly uid: number; readonly beganMs: number } | null = null;
  private pumping = false;
  /** Until somebody has rested. */
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** Calls that have not had their turn. */
  waiting = 0;

  constructor(dependencies: FairCallsDependencies) {
    this.dependencies = dependencies;
  }

  /** Takes a call. Calls of one sender are served in the order in which they came. */
  take(call: RawCall): void {
    this.waiting++;
    void this.dependencies.userOf(call.header.sender).then((uid) => this.enqueue(uid, call));
  }

  private enqueue(uid: number, call: RawCall): void {
    const nowMs = performance.now();
    const account = this.accounts.get(uid);
    if (account === undefined) this.accounts.set(uid, { debtMs: 0, atMs: nowMs, calledMs: nowMs });
    else account.calledMs = nowMs;
    const turns = this.users.get(uid) ?? { calls: [], bytes: 0 };
    if (turns.calls.length >= maxWaitingCalls || turns.bytes + call.bytes > maxWaitingBytes) {
      this.waiting--;
      this.dependencies.refuse(call.header, "too-many");
      return;
    }
    turns.calls.push(call);
    turns.bytes += call.bytes;
    this.users.set(uid, turns);
    if (this.pumping && this.timer === undefined) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.pumping = true;
    // Not at once: what else has come with this call is to be read first.
    setImmediate(() => this.pump());
  }

  // One call, and all that it does at once; then what the bus has sent meanwhile is read before the next user's.
  private pump(): void {
    const nowMs = performance.now();
    this.charge(nowMs);
    if (this.users.size === 0) {
      this.pumping = false;
      return;
    }
    if (!this.dependencies.mayServe()) {
      setTimeout(() => this.pump(), waitMs);
      return;
    }
    const next = this.next(nowMs);
    if (typeof next === "number") {
      this.timer = setTimeout(() => {
        this.timer = undefined;
        this.pump();
      }, next);
      return;
    }
    const [uid, turns] = next;
    const call = turns.calls.shift();
    this.users.delete(uid);
    if (turns.calls.length > 0) this.users.set(uid, turns);
    this.served = { uid, beganMs: nowMs };
    setImmediate(() => this.pump());
    if (call === undefined) return;
    turns.bytes -= call.bytes;
    this.waiting--;
    this.serve(call);
  }

  /** Whose turn it is, or, where all who wait rest, for how many milliseconds yet. */
  private next(nowMs: number): [uid: number, turns: Turns] | number {
    let shortestMs = longestRestMs;
    for (const [uid, turns] of this.users) {
      const restMs = this.restOf(uid, nowMs);
      if (restMs <= 0) return [uid, turns];
      shortestMs = Math.min(shortestMs, restMs);
    }
    return Math.ceil(shortestMs);
  }

  private restOf(uid: number, nowMs: number): number {
    const account = this.accounts.get(uid);
    if (account === undefined) return 0;
    const share = this.shareOf(uid, nowMs);
    account.debtMs = Math.max(0, account.debtMs - (nowMs - account.atMs) * share);
    account.atMs = nowMs;
    return (account.debtMs - freeMs) / share;
  }

  private shareOf(uid: number, nowMs: number): number {
    for (const [other, { calledMs, atMs }] of this.accounts) {
      if (other === uid) continue;
      if (nowMs - calledMs <= crowdMs) return crowdedShare;
      // By then nothing is owed either.
      if (nowMs - atMs > crowdMs && !this.users.has(other)) this.accounts.delete(other);
    }
    return aloneShare;
  }

  private charge(nowMs: number): void {
    if (this.served === null) return;
    const { uid, beganMs } = this.served;
    this.served = null;
    this.restOf(uid, nowMs);
    const account = this.accounts.get(uid);
    if (account === undefined) return;
    const mostMs = freeMs + longestRestMs * this.shareOf(uid, nowMs);
    account.debtMs = Math.min(mostMs, account.debtMs + nowMs - beganMs);
  }

  private serve({ header, decode }: RawCall): void {
    const message = decode();
    if (typeof message === "string") this.dependencies.refuse(header, message);
    else this.dependencies.serve(message);
  }
}
