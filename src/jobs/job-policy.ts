// The policy that a new job keeps, whatever becomes of the settings; what breaks it as it is spelt is refused at once.

import { displayText } from "../bytes.ts";
import { CopyError } from "../errors.ts";
import { brokenByRequest, type Policy } from "../policy.ts";
import { quoteName } from "../quote.ts";
import type { JobRequest } from "../request.ts";

/** Empty where everything is allowed. Throws policy-denied. */
export function requireAllowed(policy: Policy, request: JobRequest): { readonly policy?: Policy } {
  if (policy.length === 0) return {};
  const broken = brokenByRequest(policy, request);
  if (broken === null) return { policy };
  const path = displayText(quoteName(broken.path));
  throw new CopyError("policy-denied", `${path} is not allowed by the policy of this machine: ${broken.rule}`);
}
