// The policy by the spelling of paths and names: whole components, never parts of names.

import { expect, test } from "bun:test";
import { byteStringFromText } from "../src/bytes.ts";
import { brokenByRequest, brokenFileRule, brokenPathRule, isAtOrBelow, type PolicyRules, spelt } from "../src/policy.ts";
import { requestSchema } from "../src/request-schema.ts";

const none: PolicyRules = {
  group: "",
  allowSources: [],
  denySources: [],
  allowDestinations: [],
  denyDestinations: [],
  allowExtensions: [],
  denyExtensions: [],
  maxFileSize: 0,
};
const paths = (...texts: string[]) => texts.map(byteStringFromText);

test.each([
  ["/srv/data", "/srv/data", true],
  ["/srv/data/x", "/srv/data", true],
  ["/srv/database", "/srv/data", false],
  ["/srv/dat", "/srv/data", false],
  ["/srv", "/srv/data", false],
  ["/x/srv/data", "/srv/data", false],
  ["/anything", "/", true],
  ["/", "/", true],
])("%s at or below %s: %p", (path, directory, expected) => {
  expect(isAtOrBelow(path, directory)).toBe(expected);
});

test.each([
  ["/a//b/./c/", "/a/b/c"],
  ["/a/../../b", "/b"],
  ["/..", "/"],
  ["/a/..b/...", "/a/..b/..."],
])("%s is spelt %s", (path, expected) => {
  expect(spelt(path)).toBe(expected);
});

test("what is denied wins over what is allowed, each set of rules must allow, and the one that does not is named", () => {
  const policy = [
    { ...none, allowSources: paths("/home", "/srv"), denySources: paths("/home/secret") },
    { ...none, group: "students", denySources: paths("/srv/exams") },
  ];
  expect(brokenPathRule(policy, "/home/x", "source")).toBeNull();
  expect(brokenPathRule(policy, "/home/secret/x", "source")).toBe("deny-sources");
  expect(brokenPathRule(policy, "/home/secrets", "source")).toBeNull();
  expect(brokenPathRule(policy, "/etc", "source")).toBe("allow-sources");
  // A directory above what is allowed holds more than that.
  expect(brokenPathRule(policy, "/", "source")).toBe("allow-sources");
  expect(brokenPathRule(policy, "/srv/exams/1", "source")).toBe("deny-sources of group students");
  expect(brokenPathRule(policy, "/etc", "destination")).toBeNull();
});

test.each([
  ["film.ISO", 1, "deny-extensions"],
  ["a.tar.gz", 1, "deny-extensions"],
  ["a.gz", 1, null],
  ["iso", 1, null],
  ["miso", 1, null],
  ["a.iso.txt", 1, null],
  ["big", 11, "max-file-size"],
  ["fits", 10, null],
])("of a file named %s with %p bytes: %p", (name, size, expected) => {
  expect(brokenFileRule([{ ...none, denyExtensions: ["iso", "tar.gz"], maxFileSize: 10 }], name, size)).toBe(expected);
});

test("only what is listed is allowed where extensions are, and nothing is a name without a dot", () => {
  const policy = [{ ...none, allowExtensions: ["jpg", ""] }];
  expect(["a.jpg", "README", ".profile"].map((name) => brokenFileRule(policy, name, 1))).toEqual([null, null, null]);
  expect(brokenFileRule(policy, "a.exe", 1)).toBe("allow-extensions");
});

test("a request is refused for what can be seen of it, .. and doubled slashes included, with the path that it gave", () => {
  const policy = [{ ...none, denySources: paths("/srv/secret"), denyDestinations: paths("/etc") }];
  const broken = (source: string, destination: string, options: object = {}) =>
    brokenByRequest(policy, requestSchema.parse({ operation: "copy", sources: ["/a", source], destination, options }));
  expect(broken("/srv/public/..//secret/x", "/tmp")).toMatchObject({ path: "/srv/public/..//secret/x", rule: "deny-sources" });
  expect(broken("/srv", "/tmp")).toBeNull();
  expect(broken("/b", "/etc/")).toMatchObject({ rule: "deny-destinations" });
  expect(broken("/b", "/tmp", { manifest: "/etc/list" })).toMatchObject({ path: "/etc/list" });
  // What is exchanged is written on both sides.
  expect(broken("/etc/b", "/tmp")).toBeNull();
  expect(broken("/etc/b", "/tmp", { gnu: { exchange: true } })).toMatchObject({ path: "/etc/b", rule: "deny-destinations" });
  // A name in the settings is UTF-8; a request's are bytes.
  const umlaut = [{ ...none, denySources: paths("/srv/geheim-ü") }];
  const request = requestSchema.parse({ operation: "copy", sources: [byteStringFromText("/srv/geheim-ü/x")], destination: "/tmp" });
  expect(brokenByRequest(umlaut, request)).toMatchObject({ rule: "deny-sources" });
});
