// Says who it is, and what it thinks of being who it was told to be.

import { currentIdentity, verifyIdentity } from "../../src/worker/identity.ts";
import { identitySchema } from "../../src/worker/protocol-schema.ts";

const expected = identitySchema.parse(JSON.parse(process.argv[2] ?? "null"));
process.stdout.write(JSON.stringify({ current: currentIdentity(), problem: verifyIdentity(expected) }));
