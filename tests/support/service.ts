// The service in this process on a private bus of the system kind, over jobs in memory, with a client connected.

import type { BusConnection } from "../../src/dbus/connection.ts";
import { jobInterface, rootPath } from "../../src/dbus/contract.ts";
import { Service } from "../../src/dbus/service.ts";
import type { ServiceLimits } from "../../src/dbus/service-limits.ts";
import { Variant } from "../../src/dbus/values.ts";
import type { JobView } from "../../src/jobs/api.ts";
import type { AuditQuery, AuditRecord, KeptAuditRecord } from "../../src/jobs/audit-trail.ts";
import { type PrivateBus, privateBus } from "./bus.ts";
import { callService } from "./bus-client.ts";
import { MemoryJobs } from "./memory-jobs.ts";

export interface ServiceFixture extends AsyncDisposable {
  readonly bus: PrivateBus;
  readonly jobs: MemoryJobs;
  readonly service: Service;
  readonly client: BusConnection;
  /** What the service reported as internal errors: nothing, in a good test. */
  readonly internal: unknown[];
  /** What it told of requests, refusals and grants. */
  readonly audit: AuditRecord[];
  /** What was asked of the audit trail, which answers with `trail`. */
  readonly auditQueries: AuditQuery[];
  readonly trail: KeptAuditRecord[];
  /** The job at a path. */
  jobAt(path: string): JobView;
  /** A property of the job at a path, as the bus tells it. */
  property(path: string, name: string): Promise<unknown>;
}

/** Starts the bus and the service with limits small enough to be reached. */
export async function startServiceFixture(limits: Partial<ServiceLimits> = {}): Promise<ServiceFixture> {
  const bus = await privateBus({ kind: "system" });
  const jobs = new MemoryJobs();
  const internal: unknown[] = [];
  const audit: AuditRecord[] = [];
  const auditQueries: AuditQuery[] = [];
  const trail: KeptAuditRecord[] = [];
  const service = new Service({
    connection: await bus.connect(),
    jobs,
    kind: "system",
    version: "1.2.3",
    limits: { maxSources: 100, maxArgumentBytes: 50_000, maxSubscriptions: 3, maxWaits: 3, maxListedErrors: 10, ...limits },
    reportInternal: (error) => internal.push(error),
    audit: (record) => audit.push(record),
    readAudit: (query) => {
      auditQueries.push(query);
      return trail;
    },
  });
  await service.start();
  if (!(await service.requestName())) throw new Error("the name is taken on a fresh bus");
  const client = await bus.connect();
  return {
    bus,
    jobs,
    service,
    client,
    internal,
    audit,
    auditQueries,
    trail,
    jobAt(path) {
      const view = jobs.list(null).find(({ owner, token }) => path === `${rootPath}/jobs/u${owner.uid}/${token}`);
      if (view === undefined) throw new Error(`no job at ${path}`);
      return view;
    },
    async property(path, name) {
      const [value] = await callService(client, path, "org.freedesktop.DBus.Properties", "Get", "ss", [jobInterface, name]);
      return value instanceof Variant ? value.value : undefined;
    },
    [Symbol.asyncDispose]: () => bus[Symbol.asyncDispose](),
  };
}
