// Writes src/ffi/layout.ts: sizes, offsets and numbers as the C compiler sees them in the kernel's and liburing's headers.
//
// Only what Debian 12's headers have (Linux 6.1, liburing 2.3) is asked for, so that every newer header gives the same file.
// It holds for x86-64 and aarch64: both are little-endian LP64, and nothing below differs between them.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const layoutFile = join(import.meta.dir, "../src/ffi/layout.ts");

const headers = [
  "dirent.h",
  "sys/resource.h",
  "sys/stat.h",
  "sys/vfs.h",
  "time.h",
  "linux/capability.h",
  "linux/landlock.h",
  "linux/openat2.h",
  "linux/stat.h",
  "liburing.h",
];

interface Structure {
  readonly name: string;
  /** As C writes it. */
  readonly type: string;
  readonly fields: readonly string[];
}

const structures: readonly Structure[] = [
  { name: "dirent64", type: "struct dirent64", fields: ["d_ino", "d_off", "d_reclen", "d_type", "d_name"] },
  {
    name: "statx",
    type: "struct statx",
    fields: [
      "stx_mask",
      "stx_blksize",
      "stx_attributes",
      "stx_nlink",
      "stx_uid",
      "stx_gid",
      "stx_mode",
      "stx_ino",
      "stx_size",
      "stx_blocks",
      "stx_attributes_mask",
      "stx_atime",
      "stx_btime",
      "stx_ctime",
      "stx_mtime",
      "stx_rdev_major",
      "stx_rdev_minor",
      "stx_dev_major",
      "stx_dev_minor",
      "stx_mnt_id",
      "stx_dio_mem_align",
      "stx_dio_offset_align",
    ],
  },
  {
    name: "statfs",
    type: "struct statfs",
    fields: ["f_type", "f_bsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_flags"],
  },
  { name: "open_how", type: "struct open_how", fields: ["flags", "mode", "resolve"] },
  { name: "timespec", type: "struct timespec", fields: ["tv_sec", "tv_nsec"] },
  { name: "iovec", type: "struct iovec", fields: ["iov_base", "iov_len"] },
  { name: "rlimit", type: "struct rlimit", fields: ["rlim_cur", "rlim_max"] },
  { name: "rusage", type: "struct rusage", fields: ["ru_inblock"] },
  { name: "landlock_path_beneath_attr", type: "struct landlock_path_beneath_attr", fields: ["allowed_access", "parent_fd"] },
  {
    name: "io_uring",
    type: "struct io_uring",
    fields: [
      "sq.khead",
      "sq.ktail",
      "sq.kflags",
      "sq.sqes",
      "sq.sqe_head",
      "sq.sqe_tail",
      "sq.ring_mask",
      "sq.ring_entries",
      "cq.khead",
      "cq.ktail",
      "cq.cqes",
      "cq.ring_mask",
      "cq.ring_entries",
      "flags",
      "ring_fd",
      "features",
    ],
  },
  { name: "io_uring_params", type: "struct io_uring_params", fields: ["sq_entries", "cq_entries", "flags", "features"] },
  {
    name: "io_uring_sqe",
    type: "struct io_uring_sqe",
    fields: ["opcode", "flags", "ioprio", "fd", "off", "addr", "len", "rw_flags", "user_data", "buf_index", "splice_fd_in", "addr3"],
  },
  { name: "io_uring_cqe", type: "struct io_uring_cqe", fields: ["user_data", "res", "flags"] },
  { name: "io_uring_probe", type: "struct io_uring_probe", fields: ["last_op", "ops_len", "ops"] },
  { name: "io_uring_probe_op", type: "struct io_uring_probe_op", fields: ["op", "flags"] },
];

/** Numbers by the header's own names; each group is one object of `constants`. */
const constants: Readonly<Record<string, readonly string[]>> = {
  operations: [
    "IORING_OP_NOP",
    "IORING_OP_READ",
    "IORING_OP_WRITE",
    "IORING_OP_READ_FIXED",
    "IORING_OP_WRITE_FIXED",
    "IORING_OP_FSYNC",
    "IORING_OP_SYNC_FILE_RANGE",
    "IORING_OP_ASYNC_CANCEL",
    "IORING_OP_FALLOCATE",
    "IORING_OP_FADVISE",
    "IORING_OP_OPENAT",
    "IORING_OP_OPENAT2",
    "IORING_OP_CLOSE",
    "IORING_OP_STATX",
    "IORING_OP_SPLICE",
    "IORING_OP_RENAMEAT",
    "IORING_OP_UNLINKAT",
    "IORING_OP_MKDIRAT",
    "IORING_OP_SYMLINKAT",
    "IORING_OP_LINKAT",
  ],
  setup: [
    "IORING_SETUP_CQSIZE",
    "IORING_SETUP_CLAMP",
    "IORING_SETUP_SUBMIT_ALL",
    "IORING_SETUP_COOP_TASKRUN",
    "IORING_SETUP_TASKRUN_FLAG",
    "IORING_SETUP_SINGLE_ISSUER",
    "IORING_SETUP_DEFER_TASKRUN",
  ],
  features: ["IORING_FEAT_NODROP", "IORING_FEAT_SUBMIT_STABLE", "IORING_FEAT_RW_CUR_POS", "IORING_FEAT_EXT_ARG"],
  sqeFlags: ["IOSQE_FIXED_FILE", "IOSQE_IO_DRAIN", "IOSQE_IO_LINK", "IOSQE_IO_HARDLINK", "IOSQE_ASYNC"],
  ringFlags: ["IORING_SQ_CQ_OVERFLOW", "IORING_SQ_TASKRUN"],
  operationFlags: [
    "IORING_FSYNC_DATASYNC",
    "IORING_ASYNC_CANCEL_ALL",
    "IORING_ASYNC_CANCEL_ANY",
    "IO_URING_OP_SUPPORTED",
    "SPLICE_F_MOVE",
    "SPLICE_F_NONBLOCK",
    "SPLICE_F_MORE",
  ],
  capabilities: [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_SYS_ADMIN",
    "CAP_MKNOD",
    "CAP_SETFCAP",
  ],
};

/** Why the layout cannot be generated on this machine, or null. */
export function whyNotGenerated(): string | null {
  if (Bun.which("gcc") === null) return "gcc is not installed";
  const source = headers.map((header) => `#include <${header}>\n`).join("");
  const check = Bun.spawnSync(["gcc", "-D_GNU_SOURCE", "-fsyntax-only", "-x", "c", "-"], { stdin: Buffer.from(source), stderr: "pipe" });
  if (check.exitCode === 0) return null;
  const missing = /([\w/.]+\.h): No such file/.exec(check.stderr.toString())?.[1];
  return missing === undefined ? "the C headers do not compile" : `${missing} is not installed`;
}

/** The text of src/ffi/layout.ts by this machine's headers. Throws with the compiler's words when they lack something. */
export function generateLayout(): string {
  const directory = mkdtempSync(join(tmpdir(), "copyd-layout-"));
  try {
    const source = join(directory, "layout.c");
    const program = join(directory, "layout");
    writeFileSync(source, programText());
    const compiled = Bun.spawnSync(["gcc", "-D_GNU_SOURCE", "-O0", "-o", program, source], { stderr: "pipe" });
    if (compiled.exitCode !== 0) throw new Error(`gcc could not compile the layout program:\n${compiled.stderr.toString()}`);
    const printed = Bun.spawnSync([program], { stdout: "pipe" });
    if (printed.exitCode !== 0) throw new Error("the layout program failed");
    return printed.stdout.toString();
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function programText(): string {
  const lines = [
    "// Sizes, offsets (in bytes) and numbers of the kernel's, libc's and liburing's C headers. Generated by scripts/generate-layout.ts.",
    "",
    "export const layout = {",
    ...structures.flatMap(structureLines),
    "} as const;",
    "",
    "export const constants = {",
    ...Object.entries(constants).flatMap(([group, names]) => constantLines(group, names)),
    "} as const;",
  ];
  const prints = lines.map((line) => (line.startsWith("printf") ? line : `printf("%s\\n", ${JSON.stringify(line)});`));
  return [
    ...headers.map((header) => `#include <${header}>`),
    "#include <stddef.h>",
    "#include <stdio.h>",
    "int main(void) {",
    ...prints,
    "}",
    "",
  ].join("\n");
}

function structureLines({ name, type, fields }: Structure): string[] {
  const offsets = fields.map((field) => `printf("    ${key(field)}: %zu,\\n", offsetof(${type}, ${field}));`);
  return [`  ${name}: {`, `printf("    size: %zu,\\n", sizeof(${type}));`, ...offsets, "  },"];
}

function constantLines(group: string, names: readonly string[]): string[] {
  return [`  ${group}: {`, ...names.map((name) => `printf("    ${name}: %llu,\\n", (unsigned long long)(${name}));`), "  },"];
}

/** "sq.khead" as a property name. */
function key(field: string): string {
  return field.replace(".", "_");
}

if (import.meta.main) {
  const reason = whyNotGenerated();
  if (process.argv.includes("--check")) check(reason);
  else await write(reason);
}

async function write(reason: string | null): Promise<void> {
  if (reason === null) await Bun.write(layoutFile, generateLayout());
  else fail(`${reason}: install gcc, libc6-dev and liburing-dev`);
}

/** Without a compiler or the headers nothing can be compared: that is said and is no failure, for nobody needs them to build copyd. */
function check(reason: string | null): void {
  if (reason !== null) console.warn(`generate-layout: not checked: ${reason}`);
  else if (generateLayout() !== readFileSync(layoutFile, "utf8"))
    fail("src/ffi/layout.ts is not what the headers say: run `make generate`");
}

function fail(message: string): void {
  console.error(`generate-layout: ${message}`);
  process.exitCode = 1;
}
