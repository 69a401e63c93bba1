// Tries to make a ring, after forbidding it to itself where it was asked to, and says what came of it.

import { libc } from "../../src/ffi/libc.ts";
import { NativeMemory } from "../../src/ffi/memory.ts";
import { Ring } from "../../src/ffi/ring.ts";
import { readKernelFacts } from "../../src/ffi/ring-unavailable.ts";

const [, , disabledFile = "", seccompErrno = ""] = process.argv;

if (seccompErrno !== "") filterIoUringSetup(Number(seccompErrno));
const ring = Ring.create(8, disabledFile === "" ? {} : { kernelFacts: () => readKernelFacts(disabledFile) });
process.stdout.write(JSON.stringify(ring.available ? { available: true } : ring));
if (ring.available) ring[Symbol.dispose]();

/** seccomp(2): io_uring_setup (425 on every architecture) fails with this errno, everything else passes. */
function filterIoUringSetup(errno: number): void {
  using memory = new NativeMemory(4096);
  const instruction = (index: number, code: number, jumps: number, value: number): void => {
    memory.u32[index * 2] = code | (jumps << 16);
    memory.u32[index * 2 + 1] = value;
  };
  instruction(0, 0x20, 0, 0);
  instruction(1, 0x15, 0x0100, 425);
  instruction(2, 0x06, 0, 0x0005_0000 | errno);
  instruction(3, 0x06, 0, 0x7fff_0000);
  // struct sock_fprog: the number of instructions, then their address.
  const program = new BigUint64Array(memory.u32.buffer, 64, 2);
  program[0] = 4n;
  program[1] = BigInt(memory.address);
  const PR_SET_SECCOMP = 22;
  const PR_SET_NO_NEW_PRIVS = 38;
  if (libc.prctl(PR_SET_NO_NEW_PRIVS, 1) < 0 || libc.prctl(PR_SET_SECCOMP, 2, memory.address + 64) < 0) throw new Error("no seccomp");
}
