// What polkit is told about a question, for the person who answers it: which files, in words that no file name can bend.

import type { ByteString } from "../bytes.ts";
import { quoteName } from "../quote.ts";
import type { JobRequest } from "../request.ts";
import type { ActionDetails } from "./authorization.ts";

/** A dialogue shows a few lines: of a longer path its beginning and its end. Characters. */
const maxPathLength = 160;

/** The `source` and `destination` of the policy's messages. The quoted first source stands for all, with their number. */
export function copyDetails({ sources, destination }: Pick<JobRequest, "sources" | "destination">): ActionDetails {
  const [first = "" as ByteString] = sources;
  const others = sources.length - 1;
  const more = others === 0 ? "" : ` and ${others} ${others === 1 ? "other" : "others"}`;
  return new Map([
    ["source", `${shownPath(first)}${more}`],
    ["destination", shownPath(destination)],
    ["source-count", String(sources.length)],
  ]);
}

/**
 * A path as the dialogue shows it: in quotes, each byte that is no printable character as a shell escape, as our own messages have
 * it. Invisible characters, and those that turn the direction of writing, are escapes here too: they make one path look like another.
 */
export function shownPath(path: ByteString): string {
  const text = Buffer.from(quoteName(path), "latin1").toString("utf8");
  const visible = text.replace(invisible, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);
  const characters = [...visible];
  if (characters.length <= maxPathLength) return visible;
  const half = (maxPathLength - 3) / 2;
  return `${characters.slice(0, Math.ceil(half)).join("")}...${characters.slice(-Math.floor(half)).join("")}`;
}

/** Format characters (bidirectional controls, joiners), private use, every space but the common one, and stacks of marks. */
const invisible = /[\p{Cf}\p{Co}\p{Zl}\p{Zp}]|(?! )\p{Zs}|\p{Default_Ignorable_Code_Point}|(?<=\p{M}\p{M})\p{M}/gu;
