// Callers who live among other mounts: refused where their paths mean other files, served where they mean the same.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { whyNoBus, whyNoGdbus } from "../support/bus.ts";
import { copydCommand, plainEnvironment } from "../support/cli.ts";
import { type JobService, startJobService } from "../support/job-service.ts";
import { havePrograms, type RunResult, run } from "../support/process.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const lacking = havePrograms("unshare", "chroot", "mount") ? null : "unshare, chroot or mount is not installed";
const refusal = "org.copyd.Copyd1.Error.SandboxedCaller";

describeUnless(firstReason(whyNoBus(), whyNoGdbus(), unlessRoot(), lacking), "callers among other mounts", () => {
  let service: JobService;
  let temporary: TemporaryDirectory;
  let root: string;
  let env: Record<string, string>;

  beforeAll(async () => {
    service = await startJobService();
    temporary = await temporaryDirectory();
    root = temporary.path;
    for (const name of ["private", "shared", "jail"]) mkdirSync(join(root, name));
    writeFileSync(join(root, "shared/file"), "content");
    env = { ...plainEnvironment, PATH: "/usr/sbin:/usr/bin:/sbin:/bin", DBUS_SYSTEM_BUS_ADDRESS: service.bus.address };
  });
  afterAll(async () => {
    await service[Symbol.asyncDispose]();
    await temporary[Symbol.asyncDispose]();
  });

  /** Runs `command` in a mount namespace of its own after `script`. */
  const among = (script: string, command: readonly string[], cwd = root): Promise<RunResult> =>
    run(["unshare", "--mount", "sh", "-ec", `${script}; exec "$@"`, "sh", ...command], { env, cwd });
  const call = (method: string, source: string, destination: string): string[] => {
    const bytes = (path: string): string => `b'${path}'`;
    const [from, to] = method.endsWith("Uris") ? [`['${source}']`, destination] : [`[${bytes(source)}]`, bytes(destination)];
    const path = ["--dest", "org.copyd.Copyd1", "--object-path", rootPath, "--method", `${managerInterface}.${method}`];
    return ["gdbus", "call", "--system", ...path, from, to, "{}"];
  };
  const privateMount = (): string => `mount -t tmpfs none ${root}/private; echo mine > ${root}/private/file`;
  const jobCount = (): number => service.jobs.list(null).length;

  for (const method of ["Copy", "Move", "CopyUris", "MoveUris", "Preview", "CopyAsAdmin"]) {
    test(`${method} of what only the caller sees is refused, and makes no job`, async () => {
      const before = jobCount();
      const { status, stderr } = await among(privateMount(), call(method, `${root}/private/file`, `${root}/shared/copy`));
      expect(stderr).toContain(refusal);
      expect(stderr).toContain(`'${root}/private/file' leads elsewhere`);
      expect(status).not.toBe(0);
      expect(jobCount()).toBe(before);
    });
  }

  test("a destination that leads elsewhere is refused too, and a source that holds such a mount", async () => {
    const into = await among(privateMount(), call("CopyUris", `${root}/shared/file`, `${root}/private/copy`));
    expect(into.stderr).toContain(`${refusal}: '${root}/private/copy'`);
    const above = await among(privateMount(), call("CopyUris", root, "/nonexistent"));
    expect(above.stderr).toContain(`${refusal}: '${root}'`);
  });

  test("a caller with a private directory elsewhere, as PrivateTmp= makes it, is served", async () => {
    const { status, stderr } = await among(privateMount(), call("CopyUris", `${root}/shared/file`, `${root}/shared/served`));
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });

  test("a mount namespace of its own with the same mounts is served", async () => {
    const { status, stderr } = await among("true", call("CopyUris", `${root}/shared/file`, `${root}/shared/alike`));
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });

  test("a caller with another root directory is refused, whatever is bound into it", async () => {
    const jail = join(root, "jail");
    const bind = ["usr", "bin", "lib", "lib64", "tmp"].map((name) => `mkdir ${jail}/${name}; mount --rbind /${name} ${jail}/${name}`);
    const make = [`mount -t tmpfs none ${jail}`, ...bind].join("; ");
    const inJail = (command: readonly string[]): Promise<RunResult> => among(make, ["chroot", jail, ...command]);
    const { stderr } = await inJail(call("CopyUris", `${root}/shared/file`, `${root}/shared/from-jail`));
    expect(stderr).toContain(refusal);
  });

  test("a chroot in the service's own mount namespace is refused", async () => {
    // The same filesystem, by another root: what the paths mean is decided by it.
    const jail = join(root, "same-namespace");
    mkdirSync(jail);
    const names = ["usr", "bin", "lib", "lib64", "tmp"];
    for (const name of names) {
      mkdirSync(join(jail, name));
      await run(["mount", "--rbind", `/${name}`, join(jail, name)]);
      await run(["mount", "--make-rslave", join(jail, name)]);
    }
    try {
      const { stderr } = await run(["chroot", jail, ...call("CopyUris", `${root}/shared/file`, `${root}/shared/x`)], { env });
      expect(stderr).toContain(refusal);
    } finally {
      for (const name of names) await run(["umount", "--recursive", "--lazy", join(jail, name)]);
    }
  });

  test("`copyd cp` in a sandbox copies by itself, says so, and exits as ever", async () => {
    const before = jobCount();
    const files = join(root, "private");
    const script = `${privateMount()}; cd ${files}; "$@" cp file copy; cat copy`;
    const { status, stdout, stderr } = await among("true", ["sh", "-ec", script, "sh", ...copydCommand()]);
    expect({ status, stdout }).toEqual({ status: 0, stdout: "mine\n" });
    expect(stderr).toBe("cp: note: the service sees other files than this sandbox does; copying without it\n");
    expect(jobCount()).toBe(before);
    expect(existsSync(join(files, "copy"))).toBe(false);
    expect(readFileSync(join(root, "shared/file"), "utf8")).toBe("content");
  });
});
