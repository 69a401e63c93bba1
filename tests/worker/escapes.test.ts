// A worker that was taken over tries to get out of its cage, as a user's, root's and an administrator's: every way is refused.

import { expect } from "bun:test";
import { chmodSync, chownSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { landlockAbi } from "../../src/ffi/landlock.ts";
import { type Credentials, expectedIdentity, workerCommand } from "../../src/worker/spawn.ts";
import { whyNoOtherWorkers } from "../support/daemon.ts";
import { havePrograms, runChecked } from "../support/process.ts";
import { firstReason, testUnless, unlessRoot } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { asUser, unlistedUser, whyNoUsers } from "../support/users.ts";
import type { EscapeAnswer, EscapeTask } from "./escape-child.ts";

const user: Credentials = unlistedUser();
const other = unlistedUser();
const root: Credentials = { uid: 0, gid: 0, groups: [0] };
const reason = firstReason(
  process.arch === "x64" ? null : "the attempts are x86-64 system calls",
  landlockAbi() >= 6 ? null : "the kernel's Landlock has no scopes",
  unlessRoot(),
  whyNoUsers(),
  whyNoOtherWorkers(user),
  havePrograms("setpriv") ? null : "setpriv is not installed",
);
const roles = [
  { name: "a user's worker", as: user, isAdmin: false },
  { name: "root's worker", as: root, isAdmin: false },
  { name: "an administrator's worker", as: root, isAdmin: true },
] as const;

for (const { name, as, isAdmin } of roles) {
  testUnless(
    reason,
    `${name} gets nowhere, in whichever thread`,
    async () => {
      await using place = await temporaryDirectory();
      chmodSync(place.path, 0o755);
      const path = (below: string): string => join(place.path, below);
      for (const directory of ["source", "destination", "outside", "store"]) mkdirSync(path(directory));
      for (const directory of ["source", "destination", "outside"]) chownSync(path(directory), as.uid, as.gid);
      for (const file of ["source/file", "outside/file", "store/jobs.db"]) writeFileSync(path(file), "secret");
      // The user's own, so that nothing but the sandbox stands before it.
      chownSync(path("outside/file"), as.uid, as.gid);
      chmodSync(path("store"), 0o700);
      // Stands in for the service: root's, with every capability. And somebody else's worker.
      const service = Bun.spawn(["sleep", "120"]);
      const stranger = Bun.spawn(asUser(other, ["sleep", "120"]));
      const abstractSocket = `copyd-test-${process.pid}-${as.uid}-${isAdmin}`;
      using listener = Bun.listen({ unix: `\0${abstractSocket}`, socket: { data: () => undefined } });
      const identity = expectedIdentity(as);
      const task: EscapeTask = {
        request: { operation: "copy", sources: [path("source")], destination: path("destination") },
        isAdmin,
        identity,
        targets: {
          directory: path("outside"),
          file: "file",
          servicePid: service.pid,
          otherPid: stranger.pid,
          store: path("store"),
          abstractSocket,
        },
      };
      const self = [process.execPath, join(import.meta.dir, "escape-child.ts"), JSON.stringify(task)];
      const { stdout } = await runChecked(workerCommand(identity, self), { cwd: "/", env: { PATH: "/usr/bin:/bin" } });
      const answer = JSON.parse(stdout) as EscapeAnswer;
      expect(answer.problem).toBe(null);
      const through = ({ main, thread }: EscapeAnswer): object => ({
        main: Object.keys(main).filter((attempt) => (main[attempt] ?? 0) >= 0),
        thread: Object.keys(thread).filter((attempt) => (thread[attempt] ?? 0) >= 0),
      });
      expect(through(answer)).toEqual({ main: [], thread: [] });
      expect(Object.keys(answer.main).length).toBeGreaterThan(30);
      expect(Object.keys(answer.thread)).toEqual(Object.keys(answer.main));
      expect([service.exitCode, service.signalCode, stranger.exitCode, stranger.signalCode]).toEqual([null, null, null, null]);
      listener.stop();
      service.kill();
      stranger.kill();
      await Promise.all([service.exited, stranger.exited]);
    },
    60_000,
  );
}

testUnless(reason, "what is tried here works where nothing is in the way", async () => {
  await using place = await temporaryDirectory();
  for (const directory of ["outside", "store"]) mkdirSync(`${place.path}/${directory}`);
  writeFileSync(`${place.path}/outside/file`, "");
  writeFileSync(`${place.path}/store/jobs.db`, "");
  const service = Bun.spawn(["sleep", "120"]);
  const targets = {
    directory: `${place.path}/outside`,
    file: "file",
    servicePid: service.pid,
    otherPid: service.pid,
    store: `${place.path}/store`,
    abstractSocket: "",
  };
  const script = `const { attemptEscapes } = await import(${JSON.stringify(join(import.meta.dir, "escape-attempts.ts"))});
    console.log(JSON.stringify(attemptEscapes(${JSON.stringify(targets)})));`;
  // In namespaces of its own: what it may do there must not be done to the machine.
  const { stdout } = await runChecked(["unshare", "--mount", "--net", process.execPath, "-e", script], { cwd: `${place.path}/outside` });
  const attempts = JSON.parse(stdout) as Record<string, number>;
  const works = [
    "read",
    "ringRead",
    "reopenDirectory",
    "reopenFile",
    "byHandle",
    "store",
    "storeFile",
    "serviceMemory",
    "signalService",
    "mount",
    "namespace",
  ];
  expect(works.filter((attempt) => (attempts[attempt] ?? -1) < 0)).toEqual([]);
  service.kill();
  await service.exited;
});
