// What a job with the administrator's rights may not be asked: whatever leads it where a link that anybody made points.

import { CopyError } from "../errors.ts";
import type { JobRequest } from "../request.ts";

/** Throws CopyError `not-supported`, naming the option. */
export function requireAdminOptions({ options }: JobRequest): void {
  const { symlinks, manifest, gnu } = options;
  const refused: readonly (readonly [isAsked: boolean, option: string])[] = [
    [symlinks === "follow", "symlinks=follow"],
    [manifest !== "", "manifest"],
    [gnu.inPlace, "in-place"],
    [gnu.keepDirectorySymlink, "keep-directory-symlink"],
    [gnu.followDanglingDestination, "follow-dangling-destination"],
    [gnu.parents, "parents"],
  ];
  const first = refused.find(([isAsked]) => isAsked);
  if (first === undefined) return;
  throw new CopyError("not-supported", `option '${first[1]}' is not for administrators' jobs: it goes where other users' links may lead`);
}
