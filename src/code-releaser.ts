// Lets go of the program's code that the command and the service have read to begin a job, as long as one lasts.
//
// The code is shared by all of a copy's processes and counts as long as one of them holds it (bench/start.md).

/** A short job is over before the first time. Milliseconds. */
const releaseMs = 200;
/** The collector comes after a second, and the worker's own threads begin then. Later on it is only what progress reads that is told. */
const oftenMs = 2_000;
const seldomMs = 1_000;

export class CodeReleaser implements Disposable {
  private readonly start = performance.now();
  private timer = this.later();

  [Symbol.dispose](): void {
    clearTimeout(this.timer);
  }

  private later(): Timer {
    const isNew = performance.now() - this.start < oftenMs;
    return setTimeout(() => this.release(), isNew ? releaseMs : seldomMs).unref();
  }

  private release(): void {
    // What it cannot let go of, it keeps: nothing depends on it.
    import("./ffi/program-pages.ts").then(({ releaseProgramPages }) => releaseProgramPages()).catch(() => undefined);
    this.timer = this.later();
  }
}
