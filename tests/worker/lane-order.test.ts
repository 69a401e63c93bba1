// Which jobs are one lane's: those whose entries must come in one order.

import { expect, test } from "bun:test";
import { requestSchema } from "../../src/request-schema.ts";
import { whyInOrder } from "../../src/worker/lane-order.ts";

function why(sources: readonly string[], options: object = {}): string | null {
  return whyInOrder(requestSchema.parse({ operation: "copy", sources, destination: "/d", options }));
}

test("sources that cannot meet are copied side by side", () => {
  expect(why(["/a"])).toBeNull();
  expect(why(["/a/."])).toBeNull();
  expect(why(["/a", "/b/", "/c/ab"])).toBeNull();
});

test("sources that come to the same names are copied in order: the last one counts", () => {
  for (const sources of [
    ["/a/s", "/b/s/"],
    ["/a/.", "/b"],
    ["/b", "/a/.."],
    ["/", "/a"],
  ]) {
    expect(why(sources)).toContain("the last one counts");
  }
});

test("messages, questions and links that are followed come in order", () => {
  expect(why(["/a"], { gnu: { verbose: true } })).toContain("messages");
  expect(why(["/a"], { onConflict: "ask" })).toContain("questions");
  expect(why(["/a"], { symlinks: "follow" })).not.toBeNull();
});
