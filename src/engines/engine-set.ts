// The engines of one lane, each made when it is first needed.

import { assert, unreachable } from "../assert.ts";
import { type EngineName, engineNames } from "../request.ts";
import type { EngineOptions } from "./chooser.ts";
import { CopyFileRange } from "./copy-file-range.ts";
import type { Engine } from "./engine.ts";
import type { FileHasher } from "./file-hasher.ts";
import { IoUring } from "./io-uring.ts";
import { ReadWrite } from "./read-write.ts";
import { Reflink } from "./reflink.ts";
import { Splice } from "./splice.ts";

export class EngineSet {
  private readonly options: EngineOptions;
  private readonly hasher: FileHasher | null;
  private readonly engines = new Map<EngineName, Engine>();

  constructor(options: EngineOptions, hasher: FileHasher | null) {
    this.options = options;
    this.hasher = hasher;
  }

  of(name: EngineName): Engine {
    const existing = this.engines.get(name);
    if (existing !== undefined) return existing;
    const engine = this.make(name);
    assert(engineNames.includes(engine.name), "an engine has a known name");
    this.engines.set(name, engine);
    return engine;
  }

  get readWrite(): ReadWrite {
    const engine = this.of("read-write");
    assert(engine instanceof ReadWrite, "the engine of that name");
    return engine;
  }

  [Symbol.dispose](): void {
    for (const engine of this.engines.values()) engine[Symbol.dispose]();
    this.engines.clear();
  }

  private make(name: EngineName): Engine {
    switch (name) {
      case "reflink":
        return new Reflink();
      case "copy-file-range":
        return new CopyFileRange();
      case "splice":
        return new Splice();
      case "io-uring":
        return new IoUring({}, this.hasher);
      case "read-write":
        return new ReadWrite({
          zeros: this.options.sparse === "always" ? "holes" : "write",
          cache: this.options.cache,
          hasher: this.hasher,
        });
      default:
        return unreachable(name);
    }
  }
}
