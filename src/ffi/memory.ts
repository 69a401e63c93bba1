// Native memory that does not move: what the kernel reads or writes through a pointer lives here, never in a small typed array.

import { type Pointer, read, toArrayBuffer } from "bun:ffi";
import { assert } from "../assert.ts";
import { errnoText } from "../errno.ts";
import { libc, Mmap } from "./libc.ts";

/**
 * Anonymous pages, zeroed, page-aligned, unmapped on dispose. Threads of one process may share them by address.
 * The views must not be used after dispose: whoever owns the memory outlives whatever is in flight on it.
 */
export class NativeMemory {
  readonly address: number;
  readonly length: number;
  readonly bytes: Uint8Array;
  readonly u32: Uint32Array;
  private mapped = true;

  /** `length` in bytes is rounded up to whole pages; throws RangeError when the kernel has no memory. */
  constructor(length: number) {
    this.length = Math.ceil(length / 4096) * 4096;
    this.address = mapAnonymous(this.length);
    const buffer = viewOf(this.address, this.length);
    this.bytes = new Uint8Array(buffer);
    this.u32 = new Uint32Array(buffer);
  }

  [Symbol.dispose](): void {
    if (!this.mapped) return;
    this.mapped = false;
    libc.munmap(this.address, this.length);
  }
}

/** The address of `bytes` of fresh zeroed pages, of which only touched ones cost memory. Throws RangeError when there are none. */
export function mapAnonymous(bytes: number): number {
  const flags = Mmap.MAP_PRIVATE | Mmap.MAP_ANONYMOUS | Mmap.MAP_NORESERVE;
  const address = libc.mmap(0, bytes, Mmap.PROT_READ | Mmap.PROT_WRITE, flags, -1, 0);
  if (address < 0) throw new RangeError(`mmap of ${bytes} bytes failed: ${errnoText(-address)}`);
  return address;
}

/** The memory at an address as an ArrayBuffer; the caller keeps it mapped for as long as the view is used. */
export function viewOf(address: number, length: number): ArrayBuffer {
  assert(address > 0 && length > 0, "a view needs an address and a length");
  return toArrayBuffer(address as Pointer, 0, length);
}

/**
 * The 32-bit word at an address. The collector counts every view's memory as used, in each thread that has one: large tables that
 * many threads only look into are read word by word.
 */
export function wordAt(address: number): number {
  return read.u32(address as Pointer, 0);
}

/** A bump allocator for C strings and small structures with one owner; `reset` forgets them all. */
export class Arena {
  readonly memory: NativeMemory;
  private used = 0;

  constructor(length: number) {
    this.memory = new NativeMemory(length);
  }

  /** Address of `length` bytes (zero or stale), 8-byte aligned; 0 when the arena is full. */
  allocate(length: number): number {
    const start = (this.used + 7) & ~7;
    if (start + length > this.memory.length) return 0;
    this.used = start + length;
    return this.memory.address + start;
  }

  /** Address of the bytes of a latin1 byte string with a NUL after them; 0 when the arena is full. */
  cstring(value: string): number {
    const address = this.allocate(value.length + 1);
    if (address === 0) return 0;
    const start = address - this.memory.address;
    const bytes = this.memory.bytes;
    for (let index = 0; index < value.length; index++) bytes[start + index] = value.charCodeAt(index);
    bytes[start + value.length] = 0;
    return address;
  }

  /** What `use` makes of a string's address, which is 0 when the arena is full; the string is gone afterwards. */
  withString<Result>(value: string, use: (address: number) => Result): Result {
    const mark = this.mark();
    const result = use(this.cstring(value));
    this.reset(mark);
    return result;
  }

  mark(): number {
    return this.used;
  }

  /** Frees everything allocated since `mark` (or everything). */
  reset(mark = 0): void {
    this.used = mark;
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }
}
