// Everything of the endurance test once more, for the compiled binary.

import { endureErrno, endureLifecycles, endureRing } from "./endurance.ts";
import { endureThreads } from "./endurance-threads.ts";

const file = process.argv[2] ?? "";
const problems = [
  ...endureErrno(20_000, file),
  ...endureRing(500, `${file}-ring`),
  ...endureLifecycles(5_000),
  ...(await endureThreads(3, 5_000, file)),
];
process.stdout.write(JSON.stringify(problems));
