// Runs a job through the service: submits it, follows it, and passes on what the user wants of it.

import type { JobWatch, ServiceClient, SubmitOptions } from "../dbus/client.ts";
import { beforeAnyJob } from "../dbus/client-patience.ts";
import { CopyError } from "../errors.ts";
import type { AlsoTo, JobResult } from "../jobs/api.ts";
import type { JobRequest } from "../request.ts";
import { newQuestions, type RunListener, type Runner, type RunningJob, typedDestinations } from "./runner.ts";
import { beginConnection, takeConnection } from "./service-ahead.ts";

/** A Runner for a service that `connect` reaches. Closing the job closes the connection. */
export function serviceRunner(client: ServiceClient, how: Pick<SubmitOptions, "asAdmin" | "preparationMs"> = {}): Runner {
  return async (request, listener, { alsoTo }) => {
    try {
      return await start(client, request, listener, alsoTo, how);
    } catch (error) {
      client.close();
      throw error;
    }
  };
}

/** The service on a bus. Throws CopyError `no-service` where there is none, or none within the time. */
export async function connect(bus: "system" | "session", timeoutMs: number): Promise<ServiceClient> {
  const connecting = (bus === "system" ? takeConnection() : null) ?? beginConnection({ bus });
  try {
    return await beforeAnyJob(connecting.client, timeoutMs);
  } catch (error) {
    connecting.drop();
    if (!(error instanceof CopyError) || error.code !== "no-service") throw error;
    throw new CopyError(error.code, `cannot reach the service on the ${bus} bus: ${error.message}`, {}, error);
  }
}

async function start(
  client: ServiceClient,
  request: JobRequest,
  listener: RunListener,
  alsoTo: readonly AlsoTo[],
  how: SubmitOptions,
): Promise<RunningJob> {
  const { verbose } = request.options.gnu;
  const watches = await client.submitAndWatchAll(request, alsoTo, { ...how, errors: true, lines: verbose });
  if (watches.length === 1) return running(client, watches[0], listener);
  const { FanOut } = await import("./fan-out.ts");
  const fanOut = new FanOut(listener, typedDestinations(request, alsoTo));
  const members = watches.map((watch, index) => running(client, watch, fanOut.member(index)));
  return fanOut.running(members, () => Promise.resolve(client.close()));
}

function running(client: ServiceClient, watch: JobWatch, listener: RunListener): RunningJob {
  const { token } = watch.address;
  // The job may have ended meanwhile, or the service may have gone: `ended` tells.
  const attempt = (call: Promise<void>): void => void call.catch(() => undefined);
  return {
    ended: follow(watch, listener),
    cancel: () => attempt(client.cancel(token)),
    pause: () => attempt(client.pause(token)),
    resume: () => attempt(client.resume(token)),
    answer: (question, answer) => attempt(client.answer(token, question, answer, { forAll: false })),
    close: () => Promise.resolve(client.close()),
  };
}

async function follow(watch: JobWatch, listener: RunListener): Promise<JobResult> {
  const ask = newQuestions(listener.question);
  for await (const event of watch) {
    switch (event.type) {
      case "lines":
        listener.lines(event.lines);
        break;
      case "errors":
        listener.errors(event.errors);
        break;
      case "errors-lost":
        listener.errorsLost(event.count);
        break;
      case "back":
        listener.serviceIsBack();
        break;
      case "view":
        listener.changed(event.job);
        ask(event.job);
        break;
      case "ended":
        if (event.job.result !== null) return event.job.result;
    }
  }
  throw new CopyError("no-answer", "the service does not tell what became of the job");
}
