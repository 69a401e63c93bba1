// The version, from package.json, which the build puts into the binary.

import packageJson from "../package.json" with { type: "json" };

export const version: string = packageJson.version;
