// Why the entries of a job must come in one order, which one lane only can give; most jobs are glad of more lanes.

import type { JobRequest } from "../request.ts";

/** The reason, for people, or null where lanes may work side by side. */
export function whyInOrder({ sources, options }: JobRequest): string | null {
  const { gnu, onConflict, symlinks } = options;
  if (gnu.verbose || gnu.debug || onConflict === "ask") return "one lane, so that messages and questions come in order";
  if (symlinks === "follow" || options.renameMatch !== "") return "one lane, so that names that meet come in order";
  return mayMeet(sources) ? "one lane, since sources of one name meet at the destination: the last one counts" : null;
}

/** Whether two sources may come to the same names: two of one name, or one whose contents go where the others go themselves. */
function mayMeet(sources: readonly string[]): boolean {
  if (sources.length < 2) return false;
  const names = new Set<string>();
  for (const source of sources) {
    const end = source.replace(/\/+$/, "");
    const name = end.slice(end.lastIndexOf("/") + 1);
    if (name === "" || name === "." || name === ".." || names.has(name)) return true;
    names.add(name);
  }
  return false;
}
