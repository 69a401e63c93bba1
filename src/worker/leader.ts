// Lane 0's way through a job: the arguments, the rest of the tree with everybody's help, then the flush and, for a move, the removal.

import { At, libc, Open, syscallNumbers } from "../ffi/libc.ts";
import { ArgumentCopier } from "./arguments.ts";
import { CheckpointMarker } from "./checkpoint-marker.ts";
import { stripSlashes } from "./destination.ts";
import { endFlushes, flushErrorOf, flushFilesystem, isMarked, promisesDurability } from "./flush.ts";
import type { LaneContext } from "./lane-context.ts";
import { reportManifest } from "./lane-manifest.ts";
import { ManifestFile } from "./manifest-file.ts";
import { PartialFiles } from "./partial-files.ts";
import { phases } from "./protocol.ts";
import { removePartials } from "./recovery.ts";
import { SourceRemover } from "./remove-sources.ts";
import { Float, maxSyncDevices, Word } from "./shared.ts";
import type { TreeCopier } from "./tree-copier.ts";
import type { Verifier } from "./verifier.ts";

export class Leader {
  private readonly context: LaneContext;
  private readonly tree: TreeCopier;
  private readonly verifier: Verifier | null;
  private readonly token: string;
  private readonly marker: CheckpointMarker | null;

  constructor(context: LaneContext, tree: TreeCopier, { verifier, token }: { readonly verifier: Verifier | null; readonly token: string }) {
    this.token = token;
    this.context = context;
    // A caller who cares for no durability is not kept waiting for a mark before a rename.
    const isWaitedFor = isMarked(context.shared, context.request) && context.options.durability !== "none";
    this.marker = isWaitedFor ? new CheckpointMarker(context.shared) : null;
    this.tree = tree;
    this.verifier = verifier;
  }

  run(): void {
    const { shared, options, control } = this.context;
    const words = shared.words;
    Atomics.store(words, Word.phase, phases.indexOf("copying"));
    const broken = options.manifest === "" ? null : (this.context.policy?.brokenByManifest(options.manifest) ?? null);
    if (broken !== null) this.refuseManifest(broken);
    // Once sources are being removed the manifest is whole, and on the disk: another one would lack what is gone already.
    const hasManifest = this.context.resumption?.wasRemoving === true;
    if (hasManifest && options.manifest !== "" && broken === null) this.lookForManifest(options.manifest);
    const manifest = options.manifest === "" || broken !== null || hasManifest ? null : this.openManifest(options.manifest);
    const argumentCopier = new ArgumentCopier(this.context, this.tree);
    // A rename is for good at once, and on the device when the filesystem likes: that it was to be, is there before.
    if (argumentCopier.noteRenames()) this.marker?.mark("log");
    argumentCopier.copyAll();
    Atomics.sub(words, Word.active, 1);
    this.tree.helpUntilQuiet();
    endFlushes(shared);
    if (Atomics.load(words, Word.stopping) === 1) this.stopInOrder();
    else this.dropPartials();
    const removes = argumentCopier.toRemove.length > 0;
    const flushes = options.durability === "job" || removes || options.verify !== "none";
    const isFlushed = flushes && !control.isCancelled && this.flush(argumentCopier.intoDirectory) && (!removes || this.flushOthers());
    if (!flushes && !control.isCancelled) this.tellFlushError();
    if (this.verifier !== null) this.verify(this.verifier);
    if (manifest !== null) this.endManifest(manifest);
    // Stopped before the manifest had its name, it may not say that it has begun: the next worker would not write one.
    if (removes && isFlushed && !control.isCancelled) this.removeSources(argumentCopier);
    this.context.syncOtherDevices();
    this.announceDone();
  }

  /** Big files of former workers that nobody went on with: their sources have changed or are gone. */
  private dropPartials(): void {
    const { shared } = this.context;
    if (shared.checkpoint === null || this.context.resumption === null) return;
    removePartials(new PartialFiles(shared, shared.checkpoint).used(), this.token);
  }

  /** What is finished stays finished, also when the machine is switched off before the job goes on. */
  private stopInOrder(): void {
    Atomics.store(this.context.shared.words, Word.stopped, 1);
    const { shared, request } = this.context;
    const { checkpoint } = shared;
    if (checkpoint === null || !promisesDurability(request)) return;
    // What was flushed with everything else is durable as far as it was written.
    if (new CheckpointMarker(shared).mark("copies", { isLast: true })) new PartialFiles(shared, checkpoint).noteFlushed(checkpoint.fd);
  }

  /** The other lanes stop looking for work, and verify what they copied. */
  private announceDone(): void {
    const { words } = this.context.shared;
    Atomics.store(words, Word.done, 1);
    Atomics.add(words, Word.work, 1);
    Atomics.notify(words, Word.work);
  }

  // Every lane verifies what it copied; what a move deletes afterwards has been proved by all of them.
  private verify(verifier: Verifier): void {
    const { words } = this.context.shared;
    this.context.syncOtherDevices();
    if (this.context.options.verify !== "none") Atomics.store(words, Word.phase, phases.indexOf("verifying"));
    this.announceDone();
    verifier.finish();
    for (let left = Atomics.load(words, Word.verifying); left > 0; left = Atomics.load(words, Word.verifying)) {
      Atomics.wait(words, Word.verifying, left);
    }
  }

  private openManifest(path: string): ManifestFile {
    const { words } = this.context.shared;
    const file = new ManifestFile(path, this.token, this.context.options.umask);
    Atomics.store(words, Word.manifestFd, file.fd);
    if (file.fd >= 0) return file;
    // Before anything is copied: whoever wants a manifest wants to hear of it now.
    Atomics.store(words, Word.manifestFailed, 1);
    reportManifest(this.context, file.fd);
    return file;
  }

  private lookForManifest(path: string): void {
    const { arena, shared } = this.context;
    // The lanes are not to write into any.
    Atomics.store(shared.words, Word.manifestFailed, 1);
    const found = arena.withString(path, (address) => libc.faccessat(At.AT_FDCWD, address, 0, 0));
    if (found < 0) reportManifest(this.context, found);
  }

  private refuseManifest(rule: string): void {
    Atomics.store(this.context.shared.words, Word.manifestFailed, 1);
    const place = { argument: 0, path: "", destinationRoot: this.context.options.manifest };
    const what = `the manifest is not allowed there by the policy of this machine: ${rule}`;
    this.context.reporter.fail({ place, side: "destination", errno: 0, syscall: "", what, code: "policy-denied" });
  }

  private endManifest(file: ManifestFile): void {
    const { shared, control } = this.context;
    if (Atomics.load(shared.words, Word.manifestFailed) === 1 || control.isCancelled) {
      file.abandon();
      return;
    }
    const published = file.publish();
    if (published < 0) reportManifest(this.context, published);
  }

  // One flush of the destination's filesystem: done means on the device (rule 1).
  private flush(intoDirectory: boolean): boolean {
    const { shared, request, arena } = this.context;
    Atomics.store(shared.words, Word.phase, phases.indexOf("flushing"));
    const destination = stripSlashes(request.destination);
    const directory = intoDirectory ? destination : destination.slice(0, destination.lastIndexOf("/")) || "/";
    const mark = arena.mark();
    const fd = libc.openat(At.AT_FDCWD, arena.cstring(directory), Open.O_RDONLY | Open.O_DIRECTORY | Open.O_CLOEXEC, 0);
    const { destinationStat, empty } = this.context;
    const device = fd >= 0 && destinationStat.ofDescriptor(fd, empty) === 0 ? destinationStat.device : null;
    // An error that another program's flush was told before a descriptor was opened is not told to that: one from before the copies is.
    const kept = device === null ? null : this.context.keptDescriptor(device);
    const result = fd < 0 ? fd : flushFilesystem(shared, kept ?? fd);
    // Failed or not, its answer is told below, and once.
    if (device !== null) shared.floats[Float.flushedDevice] = device;
    if (fd >= 0) libc.close(fd);
    arena.reset(mark);
    // What a flush for a mark was told, or a former worker's, this one is not.
    const earlier = flushErrorOf(shared);
    if (result === 0 && earlier === 0) return true;
    this.failFlush(result === 0 ? earlier : -result);
    return false;
  }

  /** Of a job that need not be on the device: what a flush on the way was told, nobody else will hear. */
  private tellFlushError(): void {
    const errno = flushErrorOf(this.context.shared);
    if (errno !== 0) this.failFlush(errno);
  }

  private failFlush(errno: number): void {
    const { request, reporter } = this.context;
    const place = { argument: 0, path: "", destinationRoot: request.destination };
    const what = "cannot flush the filesystem of %d";
    reporter.fail({ place, side: "destination", errno, syscall: "syncfs", what, code: "flush-failed" });
  }

  // A source goes only when its copy is on the device (rule 5), also where a filesystem is mounted below the destination.
  private flushOthers(): boolean {
    const { shared } = this.context;
    const { words, floats } = shared;
    const count = Atomics.load(words, Word.syncDevices);
    let errno = 0;
    for (let index = 0; index < count && errno === 0; index++) {
      if (floats[Float.syncDevices + index * 2] === floats[Float.flushedDevice]) continue;
      errno = -Math.min(0, flushFilesystem(shared, floats[Float.syncDevices + index * 2 + 1] ?? -1));
    }
    // More filesystems than are kept: all that the machine has.
    if (count === maxSyncDevices) libc.syscall(syscallNumbers.sync, 0, 0);
    if (errno === 0) return true;
    const place = { argument: 0, path: "", destinationRoot: this.context.request.destination };
    const what = "cannot flush a filesystem below %d";
    this.context.reporter.fail({ place, side: "destination", errno, syscall: "syncfs", what, code: "flush-failed" });
    return false;
  }

  // From here on a source that is gone is no failure, and one that has lost entries no news.
  private noteRemoval({ toRemove }: ArgumentCopier): void {
    const { log, shared } = this.context;
    if (log === null) return;
    for (const { argument } of toRemove) log.willRemove(argument);
    log.isRemoving = true;
    // The flush before this covers the copies: of these nothing is in doubt any more, whatever the caller cares for.
    new CheckpointMarker(shared).mark("log", { isLast: true });
  }

  private removeSources(copied: ArgumentCopier): void {
    const { control } = this.context;
    this.noteRemoval(copied);
    using remover = new SourceRemover(this.context);
    for (const { argument, destinationRoot } of copied.toRemove) {
      if (!control.mayGoOn()) return;
      remover.remove(argument, destinationRoot);
    }
  }
}
