// Names swapped for links by somebody else while a worker copies: nothing outside the job is read or written, whoever the worker is.
//
// The kernel's part (Landlock) is off in most of them: the copy's own way with paths has to hold by itself.

import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  closeSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { byteStringFromText } from "../../src/bytes.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { startWorker, type WorkerEnd } from "../../src/worker/pool.ts";
import { type EntryError, inFlightBytes } from "../../src/worker/protocol.ts";
import type { Credentials } from "../../src/worker/spawn.ts";
import { whyNoOtherWorkers } from "../support/daemon.ts";
import { Random } from "../support/random.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";
import { type Swapper, startSwapper, whyNoSwapper } from "../support/swapper.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { unlistedUser, whyNoUsers } from "../support/users.ts";

const isTorture = process.env.COPYD_TORTURE !== undefined;
const random = new Random();
const pairs = 200;
/** An entry copied while its name was being swapped to and fro is a round. */
const rounds = Number(process.env.COPYD_ROUNDS ?? (isTorture ? 40_000 : 200));
const attacker = unlistedUser();
const victim: Credentials = unlistedUser();
const root: Credentials = { uid: 0, gid: 0, groups: [0] };
const secretText = "for the owner of the secret only";

interface Roles {
  readonly name: string;
  /** Whom the worker runs as, who alone may read and write what the attacker is after. */
  readonly as: Credentials;
  readonly foreignLinks: "follow" | "refuse";
  readonly sandbox: "off" | "strict";
}

const everyRole: readonly Roles[] = [
  { name: "an ordinary job", as: victim, foreignLinks: "follow", sandbox: "off" },
  { name: "a job of root's", as: root, foreignLinks: "follow", sandbox: "off" },
  { name: "an administrator's job", as: root, foreignLinks: "refuse", sandbox: "off" },
  { name: "an administrator's job in its sandbox", as: root, foreignLinks: "refuse", sandbox: "strict" },
];

interface World {
  readonly path: string;
  /** Of the attacker: pN, and qN which leads to the secret. */
  readonly stage: string;
  /** Of nobody but whom the worker runs as. */
  readonly own: string;
  readonly secret: string;
}

interface Scenario {
  readonly name: string;
  readonly roles: readonly Roles[];
  /** Makes the pairs on the stage, and what else the job takes. */
  readonly prepare: (world: World, as: Credentials) => void;
  readonly request: (world: World) => object;
  /** Before each job but the first. */
  readonly renew?: (world: World) => void;
}

const overwrite = { onConflict: "overwrite", preserve: ["mode", "times"], durability: "none" };
const names = Array.from({ length: pairs }, (_, index) => index);

/** pN: a directory of the attacker's with the names that the secret has; qN: a link to the secret. */
function directoriesForLinks({ stage, secret }: World): void {
  for (const index of names) {
    mkdirSync(`${stage}/p${index}`);
    for (const name of ["a", "b"]) writeFileSync(`${stage}/p${index}/${name}`, "the attacker's");
    symlinkSync(secret, `${stage}/q${index}`);
  }
}

function filesForLinks({ stage, secret }: World): void {
  for (const index of names) {
    writeFileSync(`${stage}/p${index}`, "the attacker's");
    symlinkSync(`${secret}/a`, `${stage}/q${index}`);
  }
}

function filesForHardLinks({ stage, secret }: World): void {
  for (const index of names) {
    writeFileSync(`${stage}/p${index}`, "the attacker's");
    // As it could be done where fs.protected_hardlinks is off.
    linkSync(`${secret}/a`, `${stage}/q${index}`);
  }
}

/** The worker's own tree, which goes over the attacker's names. */
function ownTree({ own }: World, as: Credentials, kind: "directories" | "files"): void {
  for (const index of names) {
    const paths = kind === "files" ? [`${own}/p${index}`] : [`${own}/p${index}/a`, `${own}/p${index}/new`];
    if (kind === "directories") {
      mkdirSync(`${own}/p${index}`);
      chownSync(`${own}/p${index}`, as.uid, as.gid);
    }
    for (const path of paths) {
      writeFileSync(path, "overwritten");
      chownSync(path, as.uid, as.gid);
    }
  }
}

const emptyOwn = ({ own }: World): void => {
  for (const name of readdirSync(own)) rmSync(`${own}/${name}`, { recursive: true, force: true });
};
const fromStage = ({ stage, own }: World): object => ({
  operation: "copy",
  sources: [stage],
  destination: `${own}/copy`,
  options: overwrite,
});
const ontoStage = ({ stage, own }: World): object => ({
  operation: "copy",
  sources: names.map((index) => `${own}/p${index}`),
  destination: stage,
  options: overwrite,
});

const scenarios: readonly Scenario[] = [
  { name: "directories in the source", roles: everyRole, prepare: directoriesForLinks, request: fromStage, renew: emptyOwn },
  { name: "files in the source", roles: everyRole, prepare: filesForLinks, request: fromStage, renew: emptyOwn },
  {
    name: "directories in the destination",
    roles: everyRole,
    prepare(world, as) {
      directoriesForLinks(world);
      ownTree(world, as, "directories");
    },
    request: ontoStage,
  },
  {
    name: "files in the destination",
    roles: everyRole,
    prepare(world, as) {
      filesForLinks(world);
      ownTree(world, as, "files");
    },
    request: ontoStage,
  },
  {
    name: "files in the destination, for hard links",
    roles: everyRole,
    prepare(world, as) {
      filesForHardLinks(world);
      ownTree(world, as, "files");
    },
    request: ontoStage,
  },
  {
    // Only an administrator's job may be relied upon not to follow links in its arguments.
    name: "directories above the sources",
    roles: everyRole.slice(2),
    prepare: directoriesForLinks,
    request: ({ stage, own }) => ({
      operation: "copy",
      sources: names.map((index) => `${stage}/p${index}/a`),
      destination: own,
      options: { ...overwrite, onConflict: "rename" },
    }),
    renew: emptyOwn,
  },
  {
    name: "directories above the sources of a move",
    roles: everyRole.slice(2),
    prepare: directoriesForLinks,
    request: ({ stage, own }) => ({
      operation: "move",
      sources: names.map((index) => `${stage}/p${index}/a`),
      destination: own,
      options: { ...overwrite, onConflict: "rename" },
    }),
    renew: ({ own, stage }) => {
      emptyOwn({ own } as World);
      for (const index of names) {
        // Where the last job left the pair swapped, p is the link.
        const home = statSync(`${stage}/p${index}`).uid === attacker.uid ? "p" : "q";
        writeFileSync(`${stage}/${home}${index}/a`, "the attacker's");
        chownSync(`${stage}/${home}${index}/a`, attacker.uid, attacker.gid);
      }
    },
  },
];

/** What the secret is, its own times and names included. */
function fingerprint(secret: string): unknown {
  const paths = [secret, ...readdirSync(secret).map((name) => `${secret}/${name}`)];
  return paths.map((path) => {
    const { mode, uid, gid, size, mtimeMs, ino } = statSync(path);
    return { path, mode, uid, gid, size, mtimeMs, ino, text: path === secret ? "" : readFileSync(path, "utf8") };
  });
}

/** Every name below a directory, links as such. */
function entriesBelow(directory: string): { readonly path: string; readonly kind: "directory" | "link" | "file" }[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = `${directory}/${entry.name}`;
    if (entry.isDirectory()) return [{ path, kind: "directory" as const }, ...entriesBelow(path)];
    return [{ path, kind: entry.isSymbolicLink() ? ("link" as const) : ("file" as const) }];
  });
}

/** The files below a directory that hold what is secret. */
function leaks(directory: string): string[] {
  return entriesBelow(directory)
    .filter(({ path, kind }) => kind === "file" && readFileSync(path, "utf8").includes(secretText))
    .map(({ path }) => path);
}

describeUnless(firstReason(unlessRoot(), whyNoUsers(), whyNoSwapper(), whyNoOtherWorkers(victim)), "names swapped during the copy", () => {
  let directory: TemporaryDirectory;
  let record = -1;
  beforeAll(async () => {
    directory = await temporaryDirectory();
    chmodSync(directory.path, 0o755);
    record = openSync(`${directory.path}/record`, "w+", 0o600);
    ftruncateSync(record, inFlightBytes);
  });
  afterAll(async () => {
    closeSync(record);
    await directory[Symbol.asyncDispose]();
  }, 60_000);

  let worlds = 0;
  function makeWorld(as: Credentials): World {
    const path = `${directory.path}/${++worlds}`;
    const world = { path, stage: `${path}/stage`, own: `${path}/own`, secret: `${path}/secret` };
    mkdirSync(path);
    for (const place of [world.stage, world.own, world.secret]) mkdirSync(place);
    chmodSync(world.stage, 0o777);
    chownSync(world.own, as.uid, as.gid);
    for (const name of ["a", "b"]) writeFileSync(`${world.secret}/${name}`, secretText, { mode: 0o600 });
    for (const place of [world.secret, `${world.secret}/a`, `${world.secret}/b`]) chownSync(place, as.uid, as.gid);
    chmodSync(world.secret, 0o700);
    return world;
  }

  /** What is on the stage is the attacker's, and the worker may change it. */
  function giveStage({ stage }: World): void {
    chownSync(stage, attacker.uid, attacker.gid);
    for (const { path, kind } of entriesBelow(stage)) {
      if (kind === "file" && statSync(path).nlink > 1) continue;
      lchownSync(path, attacker.uid, attacker.gid);
      if (kind !== "link") chmodSync(path, kind === "directory" ? 0o777 : 0o666);
    }
  }

  async function runJob(
    request: object,
    { as, foreignLinks, sandbox }: Roles,
    swapper: Swapper,
  ): Promise<{ end: WorkerEnd; errors: EntryError[] }> {
    const errors: EntryError[] = [];
    const { promise, resolve } = Promise.withResolvers<WorkerEnd>();
    const parsed = requestSchema.parse(request);
    const bytes = { ...parsed, sources: parsed.sources.map(byteStringFromText), destination: byteStringFromText(parsed.destination) };
    startWorker({
      task: { type: "start", request: bytes, sandbox, token: "races", lanes: 2, totals: false, foreignLinks },
      credentials: as,
      inFlightFd: record,
      onMessage(message) {
        // Its arguments have been resolved: from now on it holds to what it found, or fails.
        if (message.type === "hello") swapper.go();
        if (message.type === "errors") errors.push(...message.errors);
      },
      onEnd: resolve,
      onStderr: (line) => console.error(line),
    });
    const end = await promise;
    swapper.stand();
    return { end, errors };
  }

  for (const { name, roles, prepare, request, renew } of scenarios) {
    // Where the first lock holds by itself, the second adds what its own tests show: at length only.
    for (const role of roles.filter(({ sandbox }) => isTorture || sandbox === "off")) {
      test(
        `${name}, in ${role.name} (COPYD_TEST_SEED=${random.seed})`,
        async () => {
          const world = makeWorld(role.as);
          prepare(world, role.as);
          giveStage(world);
          const before = fingerprint(world.secret);
          await using swapper = await startSwapper(attacker, world.stage, pairs, `${world.path}/count`, random.below(1e9));
          let done = 0;
          let jobs = 0;
          let swaps = 0;
          let hits = 0;
          while (done < rounds) {
            if (jobs++ > 0) renew?.(world);
            const from = swapper.swaps;
            const { end, errors } = await runJob(request(world), role, swapper);
            swaps += swapper.swaps - from;
            // The job is refused as a whole where a pair was away from home at its beginning.
            if (end.kind === "failed" && end.code === "foreign-symlink") continue;
            expect(end.kind).toBe("result");
            done += pairs;
            hits += errors.length;
            expect(leaks(world.own)).toEqual([]);
            expect(fingerprint(world.secret)).toEqual(before);
          }
          if (isTorture) console.log(`${name}, ${role.name}: ${done} rounds in ${jobs} jobs, ${swaps} swaps meanwhile, ${hits} met one`);
          expect(swaps).toBeGreaterThan(done / 10);
        },
        isTorture ? 900_000 : 60_000,
      );
    }
  }
});
