// Arguments that are words from a list (--reflink=auto): exact or abbreviated, and coreutils' complaint with the list of valid ones.

import type { ByteString } from "../bytes.ts";
import { type MessageCharset, quoteWord } from "../quote.ts";
import { UsageError } from "./getopt.ts";

/** Words and what they mean, in the order in which they are listed; synonyms stand next to each other. */
export type WordList<Value> = readonly (readonly [word: string, value: Value])[];

/** The value of the word typed, or of the only one it abbreviates. `context` is the option's name as the message shows it. */
export function matchArgument<Value>(context: string, typed: ByteString, words: WordList<Value>, charset: MessageCharset): Value {
  const candidates: Value[] = [];
  for (const [word, value] of words) {
    if (word === typed) return value;
    if (word.startsWith(typed) && !candidates.includes(value)) candidates.push(value);
  }
  const [only] = candidates;
  if (only !== undefined && candidates.length === 1) return only;
  const problem = candidates.length === 0 ? "invalid" : "ambiguous";
  const what = `${problem} argument ${quoteWord(typed, charset)} for ${quoteWord(context as ByteString, charset)}`;
  throw new UsageError(`${what}\nValid arguments are:${listWords(words, charset)}`);
}

function listWords<Value>(words: WordList<Value>, charset: MessageCharset): string {
  let list = "";
  let previous: Value | undefined;
  for (const [word, value] of words) {
    list += previous === value ? ", " : "\n  - ";
    list += quoteWord(word as ByteString, charset);
    previous = value;
  }
  return list;
}
