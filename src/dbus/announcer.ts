// Tells subscribers what becomes of jobs: unicast, coalesced to a few messages a second, state changes at once, the end last.

import type { Jobs, JobView } from "../jobs/api.ts";
import type { EntryError } from "../worker/protocol.ts";
import { MessageType } from "./codec.ts";
import type { BusConnection } from "./connection.ts";
import { jobInterface, rootPath } from "./contract.ts";
import { firstBatch } from "./error-batches.ts";
import { changedProperties, encodeResult, jobProperties } from "./job-properties.ts";
import { jobPath } from "./object-path.ts";
import type { ServiceLimits } from "./service-limits.ts";
import { objectManagerInterface, propertiesInterface } from "./standard-interfaces.ts";
import type { Extras, Subscriptions } from "./subscriptions.ts";
import type { WireValue } from "./values.ts";

interface Track {
  /** What subscribers were last told; null for a job of a former run of the service, of which nobody was told that it is there. */
  told: JobView | null;
  latest: JobView;
  /** performance.now() of the last PropertiesChanged. */
  toldAtMs: number;
  timer: Timer | undefined;
  /** It is to be told before anything else is done, and once for all that one event changes. */
  isUrgent: boolean;
}

type Limits = Pick<ServiceLimits, "progressIntervalMs" | "crowdedProgressIntervalMs" | "crowdedJobs" | "maxListedErrors" | "maxReplyBytes">;

export class Announcer {
  private readonly connection: BusConnection;
  private readonly jobs: Jobs;
  private readonly subscriptions: Subscriptions;
  private readonly limits: Limits;
  private readonly tracks = new Map<string, Track>();

  constructor(connection: BusConnection, jobs: Jobs, subscriptions: Subscriptions, limits: Limits) {
    this.connection = connection;
    this.jobs = jobs;
    this.subscriptions = subscriptions;
    this.limits = limits;
  }

  added(job: JobView): void {
    this.track(job).told = job;
    const interfaces = (): WireValue => new Map([[jobInterface, jobProperties(job)]]);
    this.signal(job, rootPath, objectManagerInterface, "InterfacesAdded", "oa{sa{sv}}", () => [pathOf(job), interfaces()]);
  }

  changed(job: JobView, urgent: boolean): void {
    const track = this.track(job);
    track.latest = job;
    if (!this.isHeard(job)) return;
    if (urgent) {
      this.tellSoon(track);
    } else if (track.timer === undefined) {
      const dueMs = track.toldAtMs + this.intervalMs() - performance.now();
      if (dueMs <= 0) this.tell(track);
      else track.timer = setTimeout(() => this.tell(track), dueMs);
    }
  }

  /** The last properties, then Finished. Waits are answered by the caller after this. */
  ended(job: JobView): void {
    const track = this.track(job);
    track.latest = job;
    this.tell(track);
    this.signal(job, pathOf(job), jobInterface, "Finished", "sa{sv}", () => [job.state, encodeResult(job.result)]);
  }

  lines(job: JobView, lines: readonly string[]): void {
    const body = (): WireValue[] => [lines.map((line) => Buffer.from(line, "latin1"))];
    this.signal(job, pathOf(job), jobInterface, "Lines", "aay", body, "lines");
  }

  /** `offset`: how many errors of this run of the job were told before these. */
  errors(job: JobView, errors: readonly EntryError[], offset: number): void {
    if (this.subscriptions.hearing(job.owner.uid, job.token, "errors").length === 0) return;
    for (let told = 0; told < errors.length; ) {
      const batch = firstBatch(told === 0 ? errors : errors.slice(told), this.limits);
      const body: WireValue[] = [job.resumeCount, offset + told, batch as WireValue[]];
      this.signal(job, pathOf(job), jobInterface, "Errors", "uua(ayussa{sv})", () => body, "errors");
      told += batch.length;
    }
  }

  removed(job: JobView): void {
    const track = this.track(job);
    clearTimeout(track.timer);
    track.isUrgent = false;
    this.tracks.delete(pathOf(job));
    this.signal(job, rootPath, objectManagerInterface, "InterfacesRemoved", "oas", () => [pathOf(job), [jobInterface]]);
  }

  stop(): void {
    for (const track of this.tracks.values()) {
      clearTimeout(track.timer);
      track.isUrgent = false;
    }
    this.tracks.clear();
  }

  private track(job: JobView): Track {
    const path = pathOf(job);
    let track = this.tracks.get(path);
    if (track === undefined) {
      track = { told: null, latest: job, toldAtMs: Number.NEGATIVE_INFINITY, timer: undefined, isUrgent: false };
      this.tracks.set(path, track);
    }
    return track;
  }

  /** When what happens now is over: a worker that is to be started, or a job that ends by the same event, does not wait for it. */
  private tellSoon(track: Track): void {
    if (track.isUrgent) return;
    track.isUrgent = true;
    queueMicrotask(() => {
      if (track.isUrgent) this.tell(track);
    });
  }

  /** What has not been heard of because nobody listened is told with the next change: `told` stays behind until then. */
  private tell(track: Track): void {
    clearTimeout(track.timer);
    track.timer = undefined;
    track.isUrgent = false;
    if (!this.isHeard(track.latest)) return;
    const changed = track.told === null ? jobProperties(track.latest) : changedProperties(track.told, track.latest);
    track.told = track.latest;
    track.toldAtMs = performance.now();
    if (changed.size === 0) return;
    this.signal(track.latest, pathOf(track.latest), propertiesInterface, "PropertiesChanged", "sa{sv}as", () => [
      jobInterface,
      changed,
      [],
    ]);
  }

  private intervalMs(): number {
    return this.jobs.counts().active > this.limits.crowdedJobs ? this.limits.crowdedProgressIntervalMs : this.limits.progressIntervalMs;
  }

  private isHeard({ owner, token }: JobView): boolean {
    return this.subscriptions.hearing(owner.uid, token).length > 0;
  }

  /** Never broadcast: one message for each connection that may hear it, and none made when there is none. */
  private signal(
    job: JobView,
    path: string,
    interfaceName: string,
    member: string,
    signature: string,
    body: () => readonly WireValue[],
    what: "signals" | keyof Extras = "signals",
  ): void {
    const hearing = this.subscriptions.hearing(job.owner.uid, job.token, what);
    if (hearing.length === 0) return;
    const values = body();
    for (const destination of hearing) {
      this.connection.send({ type: MessageType.signal, destination, path, interface: interfaceName, member, signature, body: values });
    }
  }
}

function pathOf({ owner, token }: JobView): string {
  return jobPath(owner.uid, token);
}
