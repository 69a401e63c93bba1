// SIGHUP, as `systemctl reload` sends it: the settings are read anew, and what can change while the service runs changes.

import type { Config } from "../config.ts";
import { CopyError } from "../errors.ts";
import { log } from "../log.ts";

/** Listens to SIGHUP until disposed. Settings that cannot be loaded are told to the log, and those in force stay. */
export class Reload<Loaded extends Pick<Config, "files">> implements Disposable {
  /** Called with each configuration that was loaded. */
  onLoaded: (loaded: Loaded) => void = () => {};
  private readonly load: () => Loaded;
  private readonly onSignal = (): void => this.reload();

  constructor(load: () => Loaded) {
    this.load = load;
    process.on("SIGHUP", this.onSignal);
  }

  [Symbol.dispose](): void {
    process.off("SIGHUP", this.onSignal);
  }

  private reload(): void {
    try {
      const config = this.load();
      this.onLoaded(config);
      log.notice("the settings were read anew", { files: config.files.join(" ") || "none" });
    } catch (error) {
      if (!(error instanceof CopyError)) throw error;
      log.error(`the settings stay as they are: ${error.message}`, { code: error.code });
    }
  }
}
