// Calls that wait for their turn, undecoded: one of each user after the other, so that nobody waits for another's flood.
//
// The bus hands on what it has in the order in which it came. Decoding the largest call takes some 20 ms, and whoever sends hundreds
// of them would hold up everybody; so calls are read from the bus at once, and decoded and carried out in turns.

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
/** How soon it is looked again whether the bus takes what was sent, or somebody has rested. */
const waitMs = 1;
/** A turn that costs no more than this, milliseconds, asks for no rest. */
const freeMs = 10;
const longestRestMs = 250;

export class FairCalls {
  private readonly dependencies: FairCallsDependencies;
  /** Who was served longest ago first. */
  private readonly users = new Map<number, Turns>();
  private readonly restUntilMs = new Map<number, number>();
  private served: { readonly uid: number; readonly beganMs: number } | null = null;
  private pumping = false;
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
    const turns = this.users.get(uid) ?? { calls: [], bytes: 0 };
    if (turns.calls.length >= maxWaitingCalls || turns.bytes + call.bytes > maxWaitingBytes) {
      this.waiting--;
      this.dependencies.refuse(call.header, "too-many");
      return;
    }
    turns.calls.push(call);
    turns.bytes += call.bytes;
    this.users.set(uid, turns);
    if (this.pumping) return;
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
    const next = this.dependencies.mayServe() ? this.next(nowMs) : undefined;
    if (next === undefined) {
      setTimeout(() => this.pump(), waitMs);
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

  private next(nowMs: number): [uid: number, turns: Turns] | undefined {
    for (const [uid, turns] of this.users) if ((this.restUntilMs.get(uid) ?? 0) <= nowMs) return [uid, turns];
    return undefined;
  }

  /** Who took long rests as long: nobody has more than half of the service's time. */
  private charge(nowMs: number): void {
    if (this.served === null) return;
    const { uid, beganMs } = this.served;
    this.served = null;
    const tookMs = nowMs - beganMs;
    if (tookMs > freeMs) this.restUntilMs.set(uid, nowMs + Math.min(tookMs, longestRestMs));
    else this.restUntilMs.delete(uid);
  }

  private serve({ header, decode }: RawCall): void {
    const message = decode();
    if (typeof message === "string") this.dependencies.refuse(header, message);
    else this.dependencies.serve(message);
  }
}
