// Whether copyd does what a cell asks for: an option that is accepted and ignored would win for nothing.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mountFaultyFilesystem, whyNoFaultyFilesystem } from "../tests/support/faulty-filesystem.ts";
import { havePrograms, run } from "../tests/support/process.ts";
import { temporaryDirectory } from "../tests/support/temporary.ts";
import type { Cell } from "./cells.ts";

/** Why copyd cannot be measured in a cell yet, or null: it copies a small tree with the cell's options under observation. */
export async function whyNotBuilt({ copydOptions }: Cell, copyd: string): Promise<string | null> {
  await using directory = await temporaryDirectory();
  const source = join(directory.path, "source");
  mkdirSync(source);
  writeFileSync(join(source, "file"), Buffer.alloc(65_536, 7));
  const copyTo = (destination: string, prefix: readonly string[] = []) =>
    run([...prefix, copyd, "cp", ...copydOptions, "--local", source, destination], {
      env: { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8" },
      timeoutMs: 60_000,
    });
  const words = `copyd cp ${copydOptions.join(" ")}`;
  const { status, stderr } = await copyTo(join(directory.path, "copy"));
  if (status !== 0) return `${words} does not work: ${stderr.trim().split("\n")[0]?.replaceAll(directory.path, "")}`;

  if (copydOptions.some((option) => option.startsWith("--durability=")) && havePrograms("strace")) {
    const trace = join(directory.path, "trace");
    await copyTo(join(directory.path, "traced"), ["strace", "-f", "-qq", "-e", "trace=syncfs,fsync,fdatasync", "-o", trace]);
    if (!/sync/.test(await Bun.file(trace).text())) return `${words} flushes nothing: the option is not built yet`;
  }
  if (copydOptions.some((option) => option.startsWith("--verify="))) return await whyNotVerifying(words, copyTo);
  return null;
}

/** A destination that reads back one wrong bit must not pass. */
async function whyNotVerifying(
  words: string,
  copyTo: (destination: string) => Promise<{ readonly status: number }>,
): Promise<string | null> {
  const reason = whyNoFaultyFilesystem();
  if (reason !== null) return `whether ${words} verifies cannot be found out here: ${reason}`;
  await using below = await temporaryDirectory();
  await using wrong = await mountFaultyFilesystem({
    directory: below.path,
    directIo: true,
    rules: [{ operations: ["read"], flipOffset: 5000 }],
  });
  const { status } = await copyTo(join(wrong.path, "copy"));
  return status === 0 ? `${words} calls a copy good that reads back wrong: the option is not built yet` : null;
}
