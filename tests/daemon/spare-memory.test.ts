// The service gives back what it has on its heap in a pause, and while a job lasts; not while short ones follow each other.

import { afterEach, beforeEach, expect, type Mock, spyOn, test } from "bun:test";
import { SpareMemory } from "../../src/daemon/spare-memory.ts";
import type { JobsEvents, JobView } from "../../src/jobs/api.ts";

let shrink: Mock<typeof Bun.shrink>;
beforeEach(() => {
  shrink = spyOn(Bun, "shrink").mockImplementation(() => undefined);
});
afterEach(() => shrink.mockRestore());

/** Jobs as far as it looks at them. */
class FewJobs {
  active = 0;
  private readonly listeners = new Map<string, (job: JobView, urgent: boolean) => void>();
  counts(): { active: number; queued: number } {
    return { active: this.active, queued: 0 };
  }
  on<Name extends keyof JobsEvents>(name: Name, listener: JobsEvents[Name]): void {
    this.listeners.set(name, listener as (job: JobView, urgent: boolean) => void);
  }
  begin(): void {
    this.active++;
    this.listeners.get("changed")?.({ state: "running" } as JobView, true);
  }
  end(): void {
    this.active--;
    this.listeners.get("ended")?.({ state: "completed" } as JobView, true);
  }
}

const mebibyte = 1024 * 1024;

test("while a job lasts, a little is enough; one that is over soon is no occasion", async () => {
  const jobs = new FewJobs();
  let own = 12 * mebibyte;
  using _spare = new SpareMemory(jobs, () => own);
  own += 3 * mebibyte;
  for (let job = 0; job < 4; job++) {
    jobs.begin();
    await Bun.sleep(250);
    jobs.end();
  }
  expect(shrink).not.toHaveBeenCalled();
  jobs.begin();
  await Bun.sleep(1_200);
  expect(shrink).toHaveBeenCalledTimes(1);
});

test("when nothing runs, it takes more", async () => {
  const jobs = new FewJobs();
  let own = 12 * mebibyte;
  using _spare = new SpareMemory(jobs, () => own);
  own += 5 * mebibyte;
  jobs.begin();
  jobs.end();
  await Bun.sleep(1_300);
  expect(shrink).not.toHaveBeenCalled();
  own += 5 * mebibyte;
  jobs.begin();
  jobs.end();
  await Bun.sleep(1_300);
  expect(shrink).toHaveBeenCalledTimes(1);
});
