// Runs a command of a machine on a terminal of its own, as somebody, and types what a person would when the prompts come.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Machine } from "./machine.ts";
import type { Identity } from "./users.ts";

export interface TerminalRun {
  /** Of the command; -n where signal n ended it. */
  readonly status: number;
  /** All that the terminal showed. */
  readonly screen: string;
  /** Whether the terminal shows again what is typed. */
  readonly echoes: boolean;
}

/** For each text that is waited for, what is typed then. Everything, once. */
export type Typing = readonly (readonly [prompt: string, answer: string])[];

const driver = `import fcntl, json, os, select, sys, termios, time
task = json.loads(sys.argv[1])
# Our own hold on the slave keeps the terminal's settings readable after its last user has gone.
fd, slave = os.openpty()
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for standard in 0, 1, 2: os.dup2(slave, standard)
    os.setgroups(task["groups"]); os.setgid(task["gid"]); os.setuid(task["uid"])
    os.chdir("/")
    os.execvp(task["command"][0], task["command"])
screen, typing, at = b"", task["typing"], 0
status, deadline = None, time.time() + 60
while time.time() < deadline:
    if select.select([fd], [], [], 0.05)[0]:
        screen += os.read(fd, 65536)
    elif status is not None:
        break
    if status is None:
        ended, wait = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(wait) if ended else None
    if typing and typing[0][0].encode() in screen[at:]:
        at = len(screen)
        # The prompt comes a moment before the terminal is set to hide what is typed.
        time.sleep(0.3)
        os.write(fd, typing.pop(0)[1].encode())
if status is None:
    os.kill(pid, 9)
    status = 1000
echoes = bool(termios.tcgetattr(slave)[3] & termios.ECHO)
print(json.dumps({"status": status, "screen": screen.decode("utf8", "replace"), "echoes": echoes}))
`;

/** Whether a machine of this one's files can run the driver. */
export const terminalPython = "/usr/bin/python3";

export async function runOnTerminal(
  machine: Machine,
  { uid, gid, groups = [gid] }: Identity,
  command: readonly string[],
  typing: Typing = [],
): Promise<TerminalRun> {
  writeFileSync(join(machine.root, "run-on-terminal.py"), driver);
  const task = JSON.stringify({ uid, gid, groups, command, typing });
  const { stdout } = await machine.runChecked([terminalPython, "/run-on-terminal.py", task], { timeoutMs: 90_000 });
  return JSON.parse(stdout) as TerminalRun;
}
