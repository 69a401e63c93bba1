// Where there is no io_uring, the very reason is told, and nothing throws.

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Errno } from "../../src/errno.ts";
import { loadLiburing } from "../../src/ffi/liburing.ts";
import { liburingPath, liburingVersion } from "../../src/ffi/liburing-file.ts";
import { type KernelFacts, type RingUnavailable, readKernelFacts, tooOld, whyNoRing } from "../../src/ffi/ring-unavailable.ts";
import { havePrograms, run, runChecked } from "../support/process.ts";
import { firstReason, testUnless, unlessRoot } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { asUser, unlistedUser } from "../support/users.ts";

const child = join(import.meta.dir, "ring-child.ts");
const noLiburing = loadLiburing().available ? null : "liburing is not installed";
const noStrace = havePrograms("strace") ? null : "strace is not installed";
const noUnshare = havePrograms("unshare", "mount") ? null : "unshare is not installed";

async function answerOf(command: readonly string[]): Promise<RingUnavailable | { available: true }> {
  return JSON.parse((await runChecked(command)).stdout) as RingUnavailable | { available: true };
}

/** A child whose io_uring_setup fails with an errno that strace injects; `disabled` stands in kernel.io_uring_disabled. */
async function injected(errno: string, disabled: string): Promise<RingUnavailable> {
  await using directory = await temporaryDirectory();
  writeFileSync(`${directory.path}/io_uring_disabled`, `${disabled}\n`);
  const inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=io_uring_setup", "-e", `inject=io_uring_setup:error=${errno}`];
  const answer = await answerOf([...inject, process.execPath, child, `${directory.path}/io_uring_disabled`]);
  if (answer.available) throw new Error("there is a ring");
  expect(answer.errno).toBe(Errno[errno as keyof typeof Errno]);
  expect(answer.message.length).toBeGreaterThan(20);
  expect(answer.remedy.length).toBeGreaterThan(10);
  return answer;
}

const tracing = firstReason(noLiburing, noStrace);

testUnless(tracing, "the sysctl at 2 forbids rings for everybody", async () => {
  expect((await injected("EPERM", "2")).reason).toBe("sysctl-disabled");
});

testUnless(tracing, "an EPERM that nothing explains is a security module's", async () => {
  expect((await injected("EPERM", "0")).reason).toBe("security-module");
  expect((await injected("EACCES", "0")).reason).toBe("security-module");
});

testUnless(tracing, "a kernel without io_uring, and one without memory or descriptors, are told apart", async () => {
  expect((await injected("ENOSYS", "0")).reason).toBe("not-built-in");
  expect((await injected("ENOMEM", "0")).reason).toBe("memory");
  expect((await injected("EMFILE", "0")).reason).toBe("descriptors");
  expect((await injected("EINVAL", "0")).reason).toBe("other");
});

testUnless(noLiburing, "a seccomp filter is recognised, whichever errno it gives", async () => {
  for (const errno of [Errno.EPERM, Errno.ENOSYS]) {
    const answer = await answerOf([process.execPath, child, "", String(errno)]);
    if (answer.available) throw new Error("there is a ring");
    expect([answer.reason, answer.errno]).toEqual(["seccomp", errno]);
  }
});

testUnless(firstReason(unlessRoot(), noUnshare, noLiburing), "without liburing the linker's words are the reason", async () => {
  const hide = 'mount --bind /dev/null "$1" && shift && exec "$@"';
  const answer = await answerOf(["unshare", "--mount", "sh", "-c", hide, "sh", liburingPath(), process.execPath, child]);
  if (answer.available) throw new Error("there is a ring");
  expect(answer.reason).toBe("no-liburing");
  expect(answer.message).toContain("liburing.so.2");
});

testUnless(firstReason(unlessRoot(), noLiburing), "a compiled binary without liburing says so as well, as an ordinary user", async () => {
  await using directory = await temporaryDirectory();
  await runChecked([
    process.execPath,
    "build",
    "--compile",
    "--minify",
    "--bytecode",
    "--format=esm",
    child,
    "--outfile",
    `${directory.path}/child`,
  ]);
  await runChecked(["chmod", "0755", directory.path]);
  expect(await answerOf(asUser(unlistedUser(), [`${directory.path}/child`]))).toEqual({ available: true });
  const hide = 'mount --bind /dev/null "$1" && shift && exec "$@"';
  const hidden = ["unshare", "--mount", "sh", "-c", hide, "sh", liburingPath(), ...asUser(unlistedUser(), [`${directory.path}/child`])];
  const answer = await run(hidden);
  expect(JSON.parse(answer.stdout)).toMatchObject({ available: false, reason: "no-liburing" });
});

const facts: KernelFacts = { release: "6.12.0-generic", disabled: 0, seccompFilter: false, privileged: false };

test("the sysctl at 1 is the reason for the unprivileged only", () => {
  expect(whyNoRing(Errno.EPERM, { ...facts, disabled: 1 }).reason).toBe("sysctl-privileged-only");
  expect(whyNoRing(Errno.EPERM, { ...facts, disabled: 1, privileged: true, seccompFilter: true }).reason).toBe("seccomp");
});

test("a kernel before 5.1 is too old, and one whose rings cannot time out is so too", () => {
  expect(whyNoRing(Errno.ENOSYS, { ...facts, release: "4.19.0-27-amd64" }).reason).toBe("old-kernel");
  expect(whyNoRing(Errno.ENOSYS, { ...facts, release: "5.0.1" }).reason).toBe("old-kernel");
  expect(whyNoRing(Errno.ENOSYS, { ...facts, release: "5.10.0" }).reason).toBe("not-built-in");
  expect(tooOld({ ...facts, release: "5.10.0" }).message).toContain("5.10.0");
});

test("missing files in /proc mean that a fact is unknown", async () => {
  await using directory = await temporaryDirectory();
  expect(readKernelFacts(`${directory.path}/missing`, `${directory.path}/missing`)).toMatchObject({
    disabled: null,
    seccompFilter: false,
    privileged: false,
  });
  writeFileSync(`${directory.path}/status`, "Name:\tx\nCapEff:\t0000000000200000\nSeccomp:\t2\n");
  expect(readKernelFacts(`${directory.path}/missing`, `${directory.path}/status`)).toMatchObject({ seccompFilter: true, privileged: true });
});

testUnless(noLiburing, "the version of liburing is read off its file", () => {
  expect(liburingVersion(liburingPath())).toMatch(/^\d+\.\d+/);
  expect(liburingVersion("")).toBe("");
});
