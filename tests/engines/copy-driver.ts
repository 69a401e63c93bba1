// A process that copies one file with given options and prints the outcome as JSON: to be run under strace, limits or another uid.
// Usage: bun copy-driver.ts SOURCE DESTINATION [OPTIONS-JSON]

import { copyOne } from "./copying.ts";

const [, , source = "", destination = "", options = "{}"] = process.argv;
console.log(JSON.stringify(copyOne(source, destination, JSON.parse(options))));
