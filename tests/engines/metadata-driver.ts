// A process that gives one entry's metadata to another and prints what was lost as JSON: to be run as another uid.
// Usage: bun metadata-driver.ts SOURCE DESTINATION ATTRIBUTES (comma-separated); the destination is made like its source.

import { preserveAttributes } from "../../src/request.ts";
import { copyMetadata } from "./copying-metadata.ts";

const [, , source = "", destination = "", wanted = ""] = process.argv;
const attributes = preserveAttributes.filter((name) => wanted.split(",").includes(name));
console.log(JSON.stringify(copyMetadata(source, destination, attributes)));
