// Lets go of the program's own code: pages of the binary that a start has read, and that hardly anybody reads again.
//
// They are the page cache's and stay there; who runs into one of them again gets it by a fault without I/O, with its neighbours. The
// service and the command load this file, too, for a page that one of a copy's three processes keeps is held for all of them: so it
// stands alone and binds two calls.

import { dlopen, type Pointer, read } from "bun:ffi";

/** Of getauxval(3): where the kernel has put the program's headers, the size of each, and their number. */
const Auxiliary = { AT_PHDR: 3, AT_PHENT: 4, AT_PHNUM: 5 } as const;
/** Offsets in Elf64_Phdr, in bytes; see elf(5). */
const Header = { p_type: 0, p_flags: 4, p_vaddr: 16, p_memsz: 40 } as const;
const HeaderType = { PT_LOAD: 1, PT_PHDR: 6 } as const;
const PF_W = 2;
const MADV_DONTNEED = 4;
/** The largest page of any machine. */
const largestPageBytes = 64 * 1024;

interface Program {
  readonly release: (address: number, length: number) => boolean;
  readonly stretches: readonly { readonly address: number; readonly length: number }[];
}

let program: Program | null = null;

/** Takes less than a millisecond, and some tenths later on. False where the program does not lie in memory as it should. */
export function releaseProgramPages(): boolean {
  program ??= findProgram();
  const { release, stretches } = program;
  return stretches.length > 0 && stretches.every(({ address, length }) => release(address, length));
}

function findProgram(): Program {
  const { symbols: c } = dlopen("libc.so.6", {
    getauxval: { args: ["u64"], returns: "u64" },
    madvise: { args: ["u64", "u64", "i32"], returns: "i32" },
  });
  const auxiliary = (type: number): number => Number(c.getauxval(type));
  const [first, size, count] = [auxiliary(Auxiliary.AT_PHDR), auxiliary(Auxiliary.AT_PHENT), auxiliary(Auxiliary.AT_PHNUM)];
  const headers = Array.from({ length: count }, (_, index) => headerAt(first + index * size));
  const own = headers.find(({ type }) => type === HeaderType.PT_PHDR);
  // Without it nobody knows how far from its own addresses the program was put.
  const stretches = own === undefined ? [] : headers.flatMap((header) => stretchOf(header, first - own.address));
  return { stretches, release: (address, length) => c.madvise(address, length, MADV_DONTNEED) === 0 };
}

interface ProgramHeader {
  readonly type: number;
  readonly flags: number;
  readonly address: number;
  readonly length: number;
}

function headerAt(at: number): ProgramHeader {
  const word = (offset: number): number => read.u32((at + offset) as Pointer, 0);
  const long = (offset: number): number => Number(read.u64((at + offset) as Pointer, 0));
  return { type: word(Header.p_type), flags: word(Header.p_flags), address: long(Header.p_vaddr), length: long(Header.p_memsz) };
}

/** What is only read and run. A page that may be written may differ from the file, so whole pages only: none that another part begins in. */
function stretchOf({ type, flags, address, length }: ProgramHeader, shift: number): Program["stretches"] {
  if (type !== HeaderType.PT_LOAD || (flags & PF_W) !== 0) return [];
  const start = Math.ceil((shift + address) / largestPageBytes) * largestPageBytes;
  const end = Math.floor((shift + address + length) / largestPageBytes) * largestPageBytes;
  return end > start ? [{ address: start, length: end - start }] : [];
}
