// What a job with the administrator's rights may not be asked: what leads it where a link that anybody made points, and what is
// more than the copy or the move that the administrator said yes to.

import { CopyError } from "../errors.ts";
import type { JobRequest } from "../request.ts";

const leadsElsewhere = "it goes where other users' links may lead";
/** Another name of a file, or a link to it, gives its owner what is at the destination for as long as it stays. */
const isNoCopy = "the question to the administrator is about a copy, which this does not make";
const movesTwice = "the question to the administrator is about one direction";

/** Throws CopyError `not-supported`, naming the option. */
export function requireAdminOptions({ options }: JobRequest): void {
  const { symlinks, manifest, gnu } = options;
  const refused: readonly (readonly [isAsked: boolean, option: string, reason: string])[] = [
    [symlinks === "follow", "symlinks=follow", leadsElsewhere],
    [manifest !== "", "manifest", leadsElsewhere],
    [gnu.inPlace, "in-place", leadsElsewhere],
    [gnu.keepDirectorySymlink, "keep-directory-symlink", leadsElsewhere],
    [gnu.followDanglingDestination, "follow-dangling-destination", leadsElsewhere],
    [gnu.parents, "parents", leadsElsewhere],
    [gnu.make !== "copy", `make=${gnu.make}`, isNoCopy],
    [gnu.exchange, "exchange", movesTwice],
  ];
  const first = refused.find(([isAsked]) => isAsked);
  if (first === undefined) return;
  const [, option, reason] = first;
  throw new CopyError("not-supported", `option '${option}' is not for administrators' jobs: ${reason}`);
}
