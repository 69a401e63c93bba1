// Following a job: the newest word stands, whichever way it came.

import { expect, test } from "bun:test";
import { type JobEvent, JobWatch } from "../../src/dbus/client-watch.ts";
import { Variant } from "../../src/dbus/values.ts";

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
