// The schema of a policy as it lies in the store and travels to a worker.

import { z } from "zod";
import { byteStringSchema } from "./request-schema.ts";

const paths = z.array(byteStringSchema).readonly();
const extensions = z.array(z.string()).readonly();

export const policySchema = z
  .array(
    z
      .object({
        group: z.string(),
        allowSources: paths,
        denySources: paths,
        allowDestinations: paths,
        denyDestinations: paths,
        allowExtensions: extensions,
        denyExtensions: extensions,
        maxFileSize: z.number().int().min(0),
      })
      .strict(),
  )
  .readonly();
