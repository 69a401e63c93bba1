// Following a job: the newest word stands, whichever way it came.

import { expect, test } from "bun:test";
import type { ByteString } from "../../src/bytes.ts";
import { type JobEvent, JobWatch } from "../../src/dbus/client-watch.ts";
import { Variant } from "../../src/dbus/values.ts";
import type { EntryError } from "../../src/worker/protocol.ts";

const running = new Map([["State", new Variant("s", "running")]]);
const failed = new Map([
  ["State", new Variant("s", "failed")],
  ["Result", new Variant("a{sv}", new Map([["message", new Variant("s", "the end")]]))],
]);

test("the end of a job that comes right behind the reply with all its properties is not overwritten by them", async () => {
  const watch = new JobWatch({ uid: 0, token: "x" }, new Map(), {}, async () => []);
  const reply = Promise.withResolvers<typeof running>();
  const refreshed = watch.refresh(() => reply.promise);
  // Both in one piece from the socket: the signal is dispatched before the awaiting code goes on.
  reply.resolve(running);
  watch.update(failed);
  await refreshed;
  const events: JobEvent[] = [];
  for await (const event of watch) events.push(event);
  expect(events.map(({ type }) => type)).toEqual(["ended"]);
  expect(watch.job.state).toBe("failed");
});

test("what signals told before is replaced when all properties are asked for anew", async () => {
  const watch = new JobWatch({ uid: 0, token: "x" }, new Map(), {}, async () => []);
  watch.update(running);
  await watch.refresh(async () => failed);
  expect(watch.job.state).toBe("failed");
});

test("a job that is resumed tells each error once, and that the service is back", async () => {
  const error = (path: string): EntryError => ({
    path: path as ByteString,
    side: "source",
    code: "source-unreadable",
    errno: 13,
    syscall: "openat",
    message: `cannot open '${path}'`,
    severity: "error",
    engine: "",
    offset: -1,
  });
  let known = [error("/a"), error("/b")];
  const properties = (state: string, errorCount: number, resumeCount: number): Map<string, Variant> =>
    new Map([
      ["State", new Variant("s", state)],
      ["ErrorCount", new Variant("u", errorCount)],
      ["ResumeCount", new Variant("u", resumeCount)],
    ]);
  const watch = new JobWatch({ uid: 0, token: "t" }, properties("running", 2, 0), { errors: true }, (_job, offset) =>
    Promise.resolve(known.slice(offset)),
  );
  const heard: string[] = [];
  const reading = (async () => {
    for await (const event of watch) {
      heard.push(event.type === "errors" ? event.errors.map(({ path }) => path).join(" ") : event.type);
    }
  })();
  const turn = (): Promise<void> => Bun.sleep(0);
  await turn();
  known = [error("/b"), error("/c"), error("/a")];
  watch.isBack();
  await turn();
  watch.update(properties("running", 3, 1));
  await turn();
  watch.close();
  await reading;
  expect(heard).toEqual(["/a /b", "view", "back", "/c", "view"]);
});
