// What every generator ends with: write the file, or with --check say whether it is what would be written.

import { join } from "node:path";

const root = join(import.meta.dir, "..");
const check = process.argv.includes("--check");

/** `path` from the repository's root. In a check, a difference ends the process with 1 once it is over. */
export async function generatedFile(path: string, text: string): Promise<void> {
  const file = Bun.file(join(root, path));
  if (!check) {
    await Bun.write(file, text);
    return;
  }
  if ((await file.exists()) && (await file.text()) === text) return;
  console.error(`${path} is not what its generator writes: run \`make generate\`.`);
  process.exitCode = 1;
}
