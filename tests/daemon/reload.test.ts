// SIGHUP loads the settings anew; wrong ones change nothing.

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { loadConfig } from "../../src/config.ts";
import { Reload } from "../../src/daemon/reload.ts";
import { temporaryDirectory } from "../support/temporary.ts";

test("each SIGHUP gives the settings as they are now, unless they are wrong", async () => {
  await using directory = await temporaryDirectory();
  const path = `${directory.path}/copyd.toml`;
  const heard: number[] = [];
  {
    using reload = new Reload(() => loadConfig([`--config=${path}`], {}));
    reload.onLoaded = (config) => heard.push(config.jobs.maxRunning);
    for (const text of ["[jobs]\nmax-running = 7\n", "[jobs]\nmax-running = 0\n", "[jobs", "[jobs]\nmax-running = 8\n"]) {
      writeFileSync(path, text);
      const before = process.listenerCount("SIGHUP");
      process.emit("SIGHUP", "SIGHUP");
      expect(before).toBeGreaterThan(0);
    }
  }
  expect(heard).toEqual([7, 8]);
});
