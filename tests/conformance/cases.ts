// THE list of what every engine must do on every filesystem. One entry is one file, made, copied and compared.

import { randomBytes } from "node:crypto";
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from "node:fs";

export interface ConformanceCase {
  readonly name: string;
  /** Makes the source at this path. */
  readonly make: (path: string) => void;
  readonly sparse?: "auto" | "always" | "never";
  /** Most bytes the copy may occupy; the rest of it is holes. */
  readonly maxAllocated?: number;
  /** Fewest bytes the copy must occupy. */
  readonly minAllocated?: number;
}

const kibibyte = 1024;
const mebibyte = 1024 * kibibyte;
const gibibyte = 1024 * mebibyte;
/** What a filesystem may allocate beyond the data: btrfs and xfs round up and keep room at the end. */
const slack = mebibyte;

const random = randomBytes(4 * mebibyte);

const edges = [
  0,
  1,
  4095,
  4096,
  4097,
  64 * kibibyte - 1,
  64 * kibibyte,
  64 * kibibyte + 1,
  256 * kibibyte - 1,
  256 * kibibyte,
  256 * kibibyte + 1,
  mebibyte - 1,
  mebibyte,
  mebibyte + 1,
  3 * mebibyte + 4095,
] as const;

/** Writes pieces of random bytes at offsets and gives the file a size; what lies between them is a hole. */
function sparseFile(path: string, size: number, pieces: readonly (readonly [offset: number, length: number])[]): void {
  const fd = openSync(path, "w");
  for (const [offset, length] of pieces) writeSync(fd, random, 0, length, offset);
  ftruncateSync(fd, size);
  closeSync(fd);
}

const fragments = Array.from({ length: 40 }, (_, index) => [index * 128 * kibibyte, 4096 + (index % 3) * 1000] as const);

export const conformanceCases: readonly ConformanceCase[] = [
  ...edges.map((size) => ({
    name: `${size} bytes`,
    make: (path: string) => writeFileSync(path, random.subarray(0, size)),
  })),
  {
    name: "a large file with a tail of odd length",
    make: (path) =>
      sparseFile(
        path,
        17 * mebibyte + 12345,
        [0, 4, 8, 12].map((at) => [at * mebibyte, 4 * mebibyte] as const).concat([[16 * mebibyte, mebibyte + 12345]]),
      ),
  },
  {
    name: "5 GiB of holes with data at both ends",
    make: (path) =>
      sparseFile(path, 5 * gibibyte + 17, [
        [0, 4096],
        [2 * gibibyte + 5, 3 * mebibyte],
        [5 * gibibyte, 17],
      ]),
    maxAllocated: 3 * mebibyte + slack,
  },
  {
    name: "nothing but a hole of 5 GiB",
    make: (path) => sparseFile(path, 5 * gibibyte, []),
    maxAllocated: slack,
  },
  {
    name: "a hole at the end",
    make: (path) => sparseFile(path, 20 * mebibyte + 1, [[0, 5000]]),
    maxAllocated: slack,
  },
  {
    name: "many small pieces of data",
    make: (path) => sparseFile(path, 40 * 128 * kibibyte, fragments),
    // btrfs and xfs may give each piece 64 KiB.
    maxAllocated: 40 * 72 * kibibyte,
  },
  {
    name: "holes filled by sparse=never",
    make: (path) => sparseFile(path, 4 * mebibyte, [[mebibyte, 4096]]),
    sparse: "never",
    minAllocated: 4 * mebibyte,
  },
  {
    name: "zeros made holes by sparse=always",
    make: (path) => {
      const bytes = Buffer.alloc(8 * mebibyte + 77);
      random.copy(bytes, 3 * mebibyte, 0, 5000);
      // A last byte in the middle of a page, and a page that is zero but for its last byte.
      bytes[bytes.length - 1] = 1;
      bytes[5 * mebibyte + 4095] = 0x80;
      writeFileSync(path, bytes);
    },
    sparse: "always",
    maxAllocated: 512 * kibibyte,
  },
  {
    name: "zeros to the end made a hole by sparse=always",
    make: (path) => writeFileSync(path, Buffer.concat([random.subarray(0, 100), Buffer.alloc(3 * mebibyte)])),
    sparse: "always",
    maxAllocated: 512 * kibibyte,
  },
];
