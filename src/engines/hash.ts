// The hashes that a copy is verified with, each behind one streaming interface.
//
// Bun has SHA-256, MD5 and CRC-32 and, for data that lies in one piece, XXH3. For BLAKE3 and a streaming XXH3 there is hash-wasm,
// loaded only when one of them is asked for: compiling its module takes some milliseconds.

import type { JobOptions } from "../request.ts";

export type HashMethod = Exclude<JobOptions["verify"], "none" | "size">;

/** Bytes of the longest digest. */
export const maxDigestBytes = 32;

/** One file's hash at a time. */
export interface StreamHash {
  readonly method: HashMethod;
  readonly digestBytes: number;
  /** Begins anew, whatever was hashed before. */
  reset(): void;
  // hot: once a block.
  update(bytes: Uint8Array): void;
  /** Writes the digest to `target[at]`; `reset` comes next. */
  digest(target: Uint8Array, at: number): void;
}

/** True for the methods that look at the data. */
function isHashMethod(method: JobOptions["verify"]): method is HashMethod {
  return method !== "none" && method !== "size";
}

/** What a job hashes its files with: the method it verifies by, else SHA-256 where it writes a manifest; null: not at all. */
export function hashMethodOf({ verify, manifest }: Pick<JobOptions, "verify" | "manifest">): HashMethod | null {
  if (isHashMethod(verify)) return verify;
  return manifest === "" ? null : "sha256";
}

/** A hash of its own for each caller. */
export async function loadHash(method: HashMethod): Promise<StreamHash> {
  switch (method) {
    case "sha256":
    case "md5":
      return new NativeHash(method);
    case "crc32":
      return new Crc32();
    case "blake3": {
      const { createBLAKE3 } = await import("hash-wasm");
      return new WasmHash(method, await createBLAKE3());
    }
    case "xxh3": {
      const { createXXHash3 } = await import("hash-wasm");
      return new WasmHash(method, await createXXHash3());
    }
  }
}

class NativeHash implements StreamHash {
  readonly method: "sha256" | "md5";
  readonly digestBytes: number;
  private readonly hasher: Bun.CryptoHasher;
  /** Bun writes digests of any length only where the longest would fit. */
  private readonly result = new Uint8Array(64);
  private readonly whole: Uint8Array;

  constructor(method: "sha256" | "md5") {
    this.method = method;
    this.hasher = new Bun.CryptoHasher(method);
    this.digestBytes = this.hasher.byteLength;
    this.whole = this.result.subarray(0, this.digestBytes);
  }

  reset(): void {
    // A digest resets; whatever an unfinished file left behind goes with it.
    this.hasher.digest(this.result);
  }

  update(bytes: Uint8Array): void {
    this.hasher.update(bytes);
  }

  digest(target: Uint8Array, at: number): void {
    this.hasher.digest(this.result);
    target.set(this.whole, at);
  }
}

/** CRC-32 as zlib and gzip have it, most significant byte first. */
class Crc32 implements StreamHash {
  readonly method = "crc32" as const;
  readonly digestBytes = 4;
  private state = 0;

  reset(): void {
    this.state = 0;
  }

  update(bytes: Uint8Array): void {
    this.state = Bun.hash.crc32(bytes, this.state);
  }

  digest(target: Uint8Array, at: number): void {
    for (let index = 0; index < 4; index++) target[at + index] = (this.state >>> (24 - 8 * index)) & 0xff;
  }
}

/** As hash-wasm makes them. */
interface WasmHasher {
  init(): unknown;
  update(bytes: Uint8Array): unknown;
  digest(form: "binary"): Uint8Array;
  readonly digestSize: number;
}

class WasmHash implements StreamHash {
  readonly method: "blake3" | "xxh3";
  readonly digestBytes: number;
  private readonly hasher: WasmHasher;

  constructor(method: "blake3" | "xxh3", hasher: WasmHasher) {
    this.method = method;
    this.hasher = hasher;
    this.digestBytes = hasher.digestSize;
  }

  reset(): void {
    this.hasher.init();
  }

  update(bytes: Uint8Array): void {
    this.hasher.update(bytes);
  }

  digest(target: Uint8Array, at: number): void {
    target.set(this.hasher.digest("binary"), at);
  }
}
