// `copyd cancel`, `pause`, `resume` and `forget`: one call each.

import type { ServiceClient } from "../dbus/client.ts";
import type { JobView } from "../jobs/api.ts";
import { writeJson } from "./json-lines.ts";
import { type NamedCommand, named } from "./named-command.ts";
import { findJob, jobArgs, withService } from "./service-command.ts";

export const cancelCommand = steer("cancel", "Stop a job; what is finished stays", (client, job) => client.cancel(job));
export const pauseCommand = steer("pause", "Stop a job for a while", (client, job) => client.pause(job));
export const resumeCommand = steer("resume", "Let a paused job go on", (client, job) => client.resume(job));
export const forgetCommand = steer("forget", "Remove an ended job from the list", (client, job) => client.forget(job));

function steer(name: string, description: string, act: (client: ServiceClient, job: JobView) => Promise<void>): NamedCommand {
  return named(name, description, jobArgs, (args) =>
    withService(args, async (client) => {
      const job = await findJob(client, args.job);
      await act(client, job);
      if (args.json === true) writeJson({ type: name, job: job.token });
      return 0;
    }),
  );
}
