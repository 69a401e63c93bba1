// The tokens that name jobs: what a caller may choose, and what is chosen for one who does not.

const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
const generatedLength = 10;

/** A token is an element of a D-Bus object path, so letters, digits and "_" only; 48 leave room for more in a file name. */
export function isToken(text: string): boolean {
  return /^[A-Za-z0-9_]{1,48}$/.test(text);
}

/** A fresh random token of `[a-z0-9]{10}`: 51 bits, so that nobody meets another's by chance. */
export function generateToken(): string {
  let token = "";
  // 252 is the largest multiple of 36 in a byte: what is above would favour the first letters.
  while (token.length < generatedLength) {
    for (const byte of crypto.getRandomValues(new Uint8Array(generatedLength))) {
      if (byte < 252 && token.length < generatedLength) token += alphabet[byte % alphabet.length];
    }
  }
  return token;
}

/** One that is not taken. */
export function freshToken(isTaken: (token: string) => boolean): string {
  for (;;) {
    const token = generateToken();
    if (!isTaken(token)) return token;
  }
}
