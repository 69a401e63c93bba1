// Calls that wait for their turn, undecoded: one of each user after the other, so that nobody waits for another's flood.
//
// The bus hands on what it has in the order in which it came. Decoding the largest call takes some 20 ms, and whoever sends hundreds
// of them would hold up everybody; so calls are read from the bus at once, and decoded and carried out in turns. And whoever takes
// much of the service's time rests between turns, so that others mostly find it free.

import { type BudgetLimits, Budgets } from "../jobs/budgets.ts";
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
/** Of the service's time. The calls of a program that copies something take far less than what is free. */
const budgetLimits: BudgetLimits = { crowdedShare: 1 / 8, aloneShare: 1 / 2, crowdMs: 2_000, freeMs: 30, longestRestMs: 250 };

export class FairCalls {
  private readonly dependencies: FairCallsDependencies;
  /** Who was served longest ago first. */
  private readonly users = new Map<number, Turns>();
  private readonly budgets = new Budgets(budgetLimits);
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
    this.budgets.see(uid, performance.now());
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
    let shortestMs = budgetLimits.longestRestMs;
    for (const [uid, turns] of this.users) {
      const restMs = this.budgets.restMs(uid, nowMs);
      if (restMs <= 0) return [uid, turns];
      shortestMs = Math.min(shortestMs, restMs);
    }
    return Math.ceil(shortestMs);
  }

  private charge(nowMs: number): void {
    if (this.served !== null) this.budgets.charge(this.served.uid, nowMs - this.served.beganMs, nowMs);
    this.served = null;
  }

  private serve({ header, decode }: RawCall): void {
    const message = decode();
    if (typeof message === "string") this.dependencies.refuse(header, message);
    else this.dependencies.serve(message);
  }
}
