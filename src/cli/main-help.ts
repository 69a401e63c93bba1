// `copyd --help`, `copyd daemon --help` and `copyd --version`.

import { logLevels } from "../log.ts";
import { version } from "../version.ts";
import { writeText } from "./output.ts";

const help = `Usage: copyd COMMAND [ARGUMENT]...

Copies files fast and without losing any. The commands:
  cp       copy, with everything that GNU cp takes
  mv       move, with everything that GNU mv takes
  jobs     list your jobs
  show     show one job in full
  watch    follow a job to its end, or all that run
  wait     wait for a job's end; the exit status is the job's
  pause, resume, cancel, forget
           steer a job
  answer   show what a job asks (a full disk, a lost device), or answer it
  limit    limit how many bytes a second a job moves
  priority change a job's priority, or its place among your waiting jobs
  stats    what your jobs amount to, by day, user, source or destination
  verify   check files against a manifest of checksums, off the medium
  errors   list what a job could not copy, with advice
  audit    list who asked for what and what was refused, for administrators
  config   check the service's settings, or show those in force
  doctor   find out what this machine can do for copies, and what is missing
  daemon   the service; systemd or D-Bus start it
  help     say what there is, or what a command takes

copyd help COMMAND, or copyd COMMAND --help, says more. cp and mv copy by
themselves where there is no service; verify, doctor and config never need one;
the other commands speak to it.
Linked as cp or mv, copyd is that command.
`;

export const daemonHelp = `Usage: copyd daemon [OPTION]...

The service; systemd or D-Bus start it.

  --session        serve the user's session bus, with the user's own rights
  --config FILE    settings in TOML, instead of /etc/copyd/copyd.toml, or
                   ~/.config/copyd/copyd.toml with --session
  --log-level L    ${logLevels.join(", ")}
  --set S.K=V      one setting, as jobs.max-running=2; in the environment it is
                   COPYD_JOBS_MAX_RUNNING
`;

/** Without a command the help is an answer to a mistake. */
export function printMainHelp({ asked }: { readonly asked: boolean }): number {
  writeText(asked ? "stdout" : "stderr", help);
  return asked ? 0 : 1;
}

export function printDaemonHelp(): number {
  writeText("stdout", daemonHelp);
  return 0;
}

export function printVersion(): number {
  writeText("stdout", `copyd ${version}\n`);
  return 0;
}
