// Makes the odd tree as whoever runs it: what an ordinary user can have is the user's own from the start.

import { makeOddTree } from "../support/tree.ts";

const [path = "", ...without] = process.argv.slice(2);
await makeOddTree(path, { without: without as never[] });
