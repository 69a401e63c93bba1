// The quoting of names against coreutils' own, for hundreds of random byte names.

import { expect, test } from "bun:test";
import { type ByteString, byteString, byteStringFromText, isByteString, toBytes } from "../src/bytes.ts";
import { type MessageCharset, messageCharset, quoteName, quoteWord } from "../src/quote.ts";

const seed = Number(process.env.COPYD_TEST_SEED ?? 20240607);

/** Names as GNU cp quotes them when it complains about a file that is not there. */
function gnuQuotes(names: readonly ByteString[], locale: string): ByteString[] {
  // bash itself runs in C: in a UTF-8 locale its `read` swallows the delimiter after an unfinished character.
  const script = `cd "$(mktemp -d)" && while IFS= read -r -d '' name; do LC_ALL=${locale} cp -- "$name" . ; printf '\\0'; done 2>&1; rmdir "$PWD"`;
  const run = Bun.spawnSync(["bash", "-c", script], {
    env: { PATH: "/usr/bin:/bin", LC_ALL: "C" },
    stdin: Buffer.concat(names.map((name) => Buffer.concat([toBytes(name), Buffer.of(0)]))),
  });
  const output = run.stdout.toString("latin1").split("\0").slice(0, names.length);
  return output.map((line) => line.replace(/^.*?cannot stat /s, "").replace(/: No such file or directory\n$/, "")) as ByteString[];
}

/**
 * GNU's function forgets to leave $'' when it starts over for a name with an apostrophe that ends in an escape: it's and a
 * newline come out with two superfluous apostrophes in front; and where the name also begins with a control character, what
 * it prints is another name. That is a bug, not a contract.
 */
function isMisquotedByGnu(name: ByteString, quoted: ByteString): boolean {
  return name.includes("'") && /\\(?:[0-7]{3}|[abtnvfr])'$/.test(quoted);
}

/** A linear congruential generator: the same names in every run of one seed. */
function randomNumbers(start: number): (below: number) => number {
  let state = start >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function randomNames(count: number): ByteString[] {
  const random = randomNumbers(seed);
  const characters = [
    "'",
    "'",
    " ",
    "\n",
    "\t",
    "\\",
    '"',
    "$",
    "#",
    "~",
    "{",
    "}",
    "?",
    "a",
    "b",
    "é",
    "€",
    "😀",
    "\u200b",
    "\u0085",
    "\u2028",
    "=",
  ];
  const names: ByteString[] = [];
  for (let index = 0; index < count; index++) {
    const parts: Buffer[] = [];
    for (let length = 1 + random(8); length > 0; length--) {
      const kind = random(3);
      if (kind === 0) parts.push(Buffer.of(1 + random(255)));
      else if (kind === 1) parts.push(Buffer.of(0x20 + random(95)));
      else parts.push(Buffer.from(characters[random(characters.length)] ?? "x"));
    }
    // A slash would make it another file's path; a leading nothing is the empty name, which has a test of its own.
    const bytes = Buffer.concat(
      parts.map((part) => Buffer.from(part.toString("latin1").replaceAll("/", "_").replaceAll("\0", "_"), "latin1")),
    );
    const name = byteString(bytes);
    if (name !== "." && name !== "..") names.push(name);
  }
  return names;
}

for (const [locale, charset] of [
  ["C.UTF-8", "utf-8"],
  ["C", "ascii"],
] as const satisfies [string, MessageCharset][]) {
  test(`random names are quoted as coreutils quotes them in ${locale} (seed ${seed})`, () => {
    const names = randomNames(400);
    const expected = gnuQuotes(names, locale);
    for (const [index, name] of names.entries()) {
      const quoted = quoteName(name, charset);
      if (!isMisquotedByGnu(name, quoted)) expect(quoted, `name ${JSON.stringify(name)}`).toBe(expected[index] as ByteString);
    }
  });

  test(`every single byte, first and in the middle and with an apostrophe, is quoted as coreutils does in ${locale}`, () => {
    const names: ByteString[] = [];
    for (let byte = 1; byte < 256; byte++) {
      if (byte === 0x2f) continue;
      const character = String.fromCharCode(byte);
      if (byte !== 0x2e) names.push(character as ByteString);
      names.push(`a${character}b` as ByteString, `it's${character}` as ByteString, `${character}'` as ByteString);
    }
    const expected = gnuQuotes(names, locale);
    for (const [index, name] of names.entries()) {
      const quoted = quoteName(name, charset);
      if (!isMisquotedByGnu(name, quoted)) expect(quoted, `name ${JSON.stringify(name)}`).toBe(expected[index] as ByteString);
    }
  });
}

test("a quoted name read by a shell is the name again", () => {
  const names = randomNames(200);
  const script = names.map((name) => `printf '%s\\0' ${quoteName(name, "ascii")}\n`).join("");
  const run = Bun.spawnSync(["bash"], { stdin: Buffer.from(script, "latin1"), env: { PATH: "/usr/bin:/bin", LC_ALL: "C" } });
  expect(run.stdout.toString("latin1").split("\0").slice(0, -1)).toEqual(names);
});

test("a quoted name holds no control character and stays a byte string", () => {
  for (const name of randomNames(200)) {
    const quoted = quoteName(name);
    expect(isByteString(quoted)).toBe(true);
    for (const byte of toBytes(quoted)) expect(byte >= 0x20 && byte !== 0x7f).toBe(true);
  }
});

test("the empty name is two apostrophes", () => {
  expect(quoteName("" as ByteString)).toBe("''" as ByteString);
});

test("words of usage messages are quoted typographically in UTF-8 and with apostrophes in C", () => {
  expect(quoteWord("foo" as ByteString, "utf-8")).toBe(byteStringFromText("‘foo’"));
  expect(quoteWord("fo'o\n\\" as ByteString, "ascii")).toBe("'fo\\'o\\n\\\\'" as ByteString);
});

test("the charset follows LC_ALL, then LC_CTYPE, then LANG", () => {
  expect(messageCharset({})).toBe("ascii");
  expect(messageCharset({ LANG: "de_DE.UTF-8" })).toBe("utf-8");
  expect(messageCharset({ LANG: "de_DE.UTF-8", LC_CTYPE: "C" })).toBe("ascii");
  expect(messageCharset({ LANG: "C", LC_CTYPE: "C", LC_ALL: "C.utf8" })).toBe("utf-8");
});
