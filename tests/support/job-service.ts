// The service in this process over the real jobs room, on a private bus of the system kind: what the CLI meets when copyd is installed.

import { Service } from "../../src/dbus/service.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import type { AdjustableJobs, JobsDependencies } from "../../src/jobs/jobs-dependencies.ts";
import { type PrivateBus, privateBus } from "./bus.ts";

export interface JobService extends AsyncDisposable {
  readonly bus: PrivateBus;
  readonly jobs: AdjustableJobs;
}

/** Starts both; workers run as each caller, which needs root. */
export async function startJobService(changes: Partial<JobsDependencies> = {}): Promise<JobService> {
  const bus = await privateBus({ kind: "system" });
  const jobs = createJobs({ mode: "system", ...changes });
  const service = new Service({
    connection: await bus.connect(),
    jobs,
    kind: "system",
    version: "0.0.0",
    reportInternal: (error) => console.error(error),
  });
  await service.start();
  if (!(await service.requestName())) throw new Error("the name is taken on a fresh bus");
  return {
    bus,
    jobs,
    [Symbol.asyncDispose]: async () => {
      await jobs.shutdown();
      await bus[Symbol.asyncDispose]();
    },
  };
}
