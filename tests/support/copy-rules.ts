// The rules that a copy must keep, by number, and the tests that hold it to each. A rule without a test is a wish.

export interface CopyRule {
  readonly words: string;
  /** File below tests/, and the beginning or a part of a test's name as it stands there. */
  readonly tests: readonly (readonly [file: string, name: string])[];
}

export const copyRules: Readonly<Record<number, CopyRule>> = {
  1: {
    words: "Done means on the device, as durability asks.",
    tests: [
      ["conformance/rules/durability.test.ts", "durability=job ends with one flush of the destination's filesystem"],
      ["conformance/rules/durability.test.ts", "durability=file syncs each file before it gets its name"],
      ["conformance/rules/durability.test.ts", "a flush that fails is an error of the job"],
    ],
  },
  2: {
    words: "An fsync error is final.",
    tests: [
      ["conformance/rules/durability.test.ts", "a file whose fsync failed is dropped, not synced again and believed"],
      ["worker/checkpoint-file.test.ts", "of a partial file whose flush failed nothing is believed"],
      ["recovery/resume-lost-writes.test.ts", "a big file's beginning"],
    ],
  },
  3: {
    words: "A final name never shows half a file, and what a crash leaves over is found.",
    tests: [
      ["recovery/steps.test.ts", "a new tree"],
      ["recovery/injection.test.ts", "a tree into directories that exist"],
      ["recovery/kill.test.ts", "kill -9 while it copies"],
      ["recovery/left-over.test.ts", "the next cp removes a half file"],
      ["recovery/service.test.ts", "goes on after each kill -9 of a worker"],
      ["engines/publish.test.ts", "the whole file appears under its name, and nothing besides"],
    ],
  },
  4: {
    words: "Overwriting never destroys the old file before the new one is complete.",
    tests: [
      ["recovery/steps.test.ts", "in the place of old files"],
      ["recovery/command.test.ts", "an old file is kept whole where the new one does not fit"],
      ["conformance/move-backup.test.ts", "where the backup cannot be made, nothing is moved"],
      ["engines/publish.test.ts", "replacing keeps the old file whole until the new one is"],
    ],
  },
  5: {
    words: "A move deletes only the very inode that was copied, whole, durable and verified.",
    tests: [
      ["recovery/steps.test.ts", "a move to another filesystem"],
      ["conformance/rules/durability.test.ts", "keeps its sources when the flush fails"],
      ["recovery/resume-flush.test.ts", "the next one keeps the sources, and the result names it"],
      ["recovery/resume-flush.test.ts", "what the medium does not hold is copied again before its source goes"],
      ["recovery/resume-flush.test.ts", "what came while sources were being removed already is in doubt"],
      ["recovery/resume-lost-writes.test.ts", "finished files"],
      ["conformance/rules/changing-source.test.ts", "a move keeps a source that changed"],
      ["conformance/move.test.ts", "leaves a directory that appeared meanwhile"],
      ["conformance/move.test.ts", "leaves a file that appeared meanwhile, and one that was written to"],
      ["conformance/verify.test.ts", "a move keeps the source of the file whose copy is wrong"],
    ],
  },
  6: {
    words: "The result is true: one entry that failed makes the job failed.",
    tests: [
      ["jobs/jobs.test.ts", "one entry that failed makes the job failed"],
      ["jobs/jobs.test.ts", "a worker that counted errors and claims success is not believed"],
    ],
  },
  7: {
    words: "The end of a file is a read of 0; sizes are hints.",
    tests: [
      ["conformance/engines.test.ts", "reads files of /proc and /sys, whose sizes lie, to their end"],
      ["conformance/engines.test.ts", "follows a source that grows meanwhile"],
      ["conformance/faults.test.ts", "goes on where they stopped"],
    ],
  },
  8: {
    words: "copy_file_range proves nothing by 0, and what it cannot do the next engine does from there.",
    tests: [
      ["conformance/faults.test.ts", "copy_file_range answering 0 before the end is not believed"],
      ["conformance/faults.test.ts", "is followed by read and write at the same offset"],
      ["conformance/faults.test.ts", "ends the copy on the $"],
    ],
  },
  9: {
    words: "Holes are hints.",
    tests: [
      ["conformance/cases.ts", "5 GiB of holes with data at both ends"],
      ["conformance/cases.ts", "holes filled by sparse=never"],
    ],
  },
  10: {
    words: "A clone is just tried, told as such, and can be forbidden.",
    tests: [
      ["engines/copying.test.ts", "is reported as cloned"],
      ["engines/copying.test.ts", "reflink=never shares nothing where everything could be shared"],
    ],
  },
  11: {
    words: "O_DIRECT needs alignment; the tail and what refuses it are read otherwise.",
    tests: [["conformance/verify.test.ts", "without O_DIRECT, pages are dropped and proved to be gone before they are read"]],
  },
  12: {
    words: "A source that changes while it is copied is reported, never silently torn.",
    tests: [
      ["conformance/rules/changing-source.test.ts", "a job of the service fails that file by name, and leaves no copy"],
      ["conformance/rules/changing-source.test.ts", "cp copies a log that is being written, and says so"],
      ["conformance/plain-files.test.ts", "one that grows meanwhile is copied to its new end, which is told"],
    ],
  },
  13: {
    words: "Directory descriptors only; open, look, compare; nothing swapped in is followed.",
    tests: [
      ["recovery/races.test.ts", "an ordinary job"],
      ["tree/open.test.ts", "nothing leads out: neither .. nor an absolute path nor a symlink swapped in for a directory"],
      ["engines/metadata.test.ts", "nothing is done to what somebody put in a special file's place"],
    ],
  },
  14: {
    words: "Nothing is written through a dangling symlink, or one that appeared later.",
    tests: [
      ["tree/plan.test.ts", "a link at the destination is written through, and one to nothing is not"],
      ["conformance/gnu/cp/overwriting.ts", "a file over a dangling link inside a tree"],
    ],
  },
  15: {
    words: "Into-itself and same-file are found by device and inode, before anything is opened for writing.",
    tests: [
      ["tree/plan.test.ts", "two names of one file, and a link and what it leads to, stay"],
      ["conformance/gnu/cp/differences.ts", "a tree into its subdirectory"],
      ["conformance/gnu/mv/cases.ts", "a directory below itself"],
    ],
  },
  16: {
    words: "Special files are made only when asked for, and never read.",
    tests: [
      ["conformance/gnu/cp/special.ts", "a FIFO in a tree"],
      ["conformance/gnu/cp/special.ts", "a FIFO that somebody waits to write to is left alone"],
    ],
  },
  17: {
    words: "Closed while it fills; then owner, attributes, mode, times; directories last.",
    tests: [
      ["conformance/rules/order.test.ts", "a file and its directory get what is theirs in order"],
      ["conformance/rules/order.test.ts", "what gets an owner but no mode of its source is closed until it has the owner"],
    ],
  },
  18: {
    words: "Hard links stay hard links, symlinks symlinks.",
    tests: [
      ["worker/hard-links.test.ts", "many threads: every inode is copied once, and every other name links to that copy"],
      ["engines/metadata.test.ts", "root keeps everything of every kind of entry"],
    ],
  },
  19: {
    words: "What the destination cannot hold is told.",
    tests: [["engines/metadata.test.ts", "a user keeps what is theirs and is told what is not"]],
  },
  20: {
    words: "setuid and setgid go where the owner could not be kept.",
    tests: [["conformance/rules/order.test.ts", "setuid and setgid bits go where the owner could not be kept"]],
  },
  21: {
    words: "A full disk leaves no half file, and the job can go on when there is room.",
    tests: [
      ["conformance/faults.test.ts", "says that the destination is full when it is"],
      ["recovery/command.test.ts", "stops no entry that still fits, names those that do not, and keeps no half file"],
      ["jobs/full-disk.test.ts", "a full disk asks, and the job goes on by itself when there is room"],
      ["jobs/full-disk.test.ts", "inodes that are used up are asked about like bytes"],
      ["recovery/trouble.test.ts", "a quota that is used up is asked about"],
    ],
  },
  22: {
    words: "Totals are provisional until the walk has ended; the percentage never runs backwards.",
    tests: [
      ["jobs/progress.test.ts", "nothing is foretold without totals"],
      ["jobs/jobs.test.ts", "a worker's lies never make progress run backwards"],
    ],
  },
  23: {
    words: "A slow device shows its real speed (with cache=drop; else what is flushed at the end is a phase of its own).",
    tests: [["engines/copying.test.ts", "cache=drop leaves neither a cold source nor the copy in the page cache"]],
  },
  24: {
    words: "Big copies need not evict everybody's page cache.",
    tests: [
      ["engines/copying.test.ts", "cache=drop leaves neither a cold source nor the copy in the page cache"],
      ["engines/copying.test.ts", "cache=drop spares a source that was in the page cache before"],
    ],
  },
  25: {
    words: "A pause stops reading and writing at once and blocks nobody.",
    tests: [
      ["worker/lane-control.test.ts", "a paused lane moves nothing until it is resumed"],
      ["jobs/jobs.test.ts", "paused and asking jobs hold up nobody"],
    ],
  },
  26: {
    words: "One job after the other on a slow device, side by side on different ones.",
    tests: [
      ["jobs/turns.test.ts", "one after the other on one device, side by side on others"],
      ["jobs/queue.test.ts", "now does not wait for a place"],
    ],
  },
  27: {
    words: "Verification reads the medium, and names the first byte that differs; hashes can be checked later.",
    tests: [
      ["conformance/verify.test.ts", "a flipped bit is found on"],
      ["conformance/verify.test.ts", "whose medium changed since is found by its manifest"],
    ],
  },
};
