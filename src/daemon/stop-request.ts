// The one place where the wish to stop arrives: from a signal, from idleness, from the bus that has gone.

export interface StopReason {
  readonly kind: "signal" | "idle" | "bus-gone" | "shutdown";
  readonly words: string;
}

/**
 * Listens to SIGTERM and SIGINT until disposed. The first reason counts; a second signal ends the process at once. A first signal
 * after another reason does not: systemd sends one as soon as an idle service has given its name up.
 */
export class StopRequest implements Disposable {
  readonly requested: Promise<StopReason>;
  private readonly resolve: (reason: StopReason) => void;
  private isSignalled = false;
  private readonly onSignal = (signal: NodeJS.Signals): void => {
    if (this.isSignalled) process.exit(1);
    this.isSignalled = true;
    this.request("signal", signal);
  };

  constructor() {
    const { promise, resolve } = Promise.withResolvers<StopReason>();
    this.requested = promise;
    this.resolve = resolve;
    process.on("SIGTERM", this.onSignal);
    process.on("SIGINT", this.onSignal);
  }

  request(kind: StopReason["kind"], words: string): void {
    this.resolve({ kind, words });
  }

  [Symbol.dispose](): void {
    process.off("SIGTERM", this.onSignal);
    process.off("SIGINT", this.onSignal);
  }
}
