// The policy's settings: who they are for, and what is said of mistakes in them.

import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { loadConfig } from "../../src/config.ts";
import { policiesOf } from "../../src/daemon/policies.ts";
import type { Policy } from "../../src/policy.ts";
import { temporaryDirectory } from "../support/temporary.ts";

async function policyOf(text: string, groups: readonly number[]): Promise<Policy> {
  await using directory = await temporaryDirectory();
  const path = `${directory.path}/copyd.toml`;
  writeFileSync(path, text);
  try {
    return policiesOf(loadConfig([`--config=${path}`], {}))({ uid: 1000, gid: 1000, groups });
  } catch (error) {
    throw new Error(String((error as Error).message).replaceAll(path, "FILE"));
  }
}

test("rules are for everybody, or for a group by name or number, and each of them counts", async () => {
  const text = `
[policy]
deny-sources = ["/srv/geheim-ü"]
[policy.61009]
allow-destinations = ["/media"]
[policy.root]
max-file-size = 5
`;
  expect(await policyOf(text, [1000])).toMatchObject([{ group: "", denySources: ["/srv/geheim-\xc3\xbc"] }]);
  expect(await policyOf(text, [1000, 0, 61009])).toMatchObject([
    { group: "" },
    { group: "61009", allowDestinations: ["/media"] },
    { group: "root", maxFileSize: 5, denySources: [] },
  ]);
  expect(await policyOf("", [0])).toEqual([]);
});

test.each([
  ['[policy]\ndeny-sources = ["/a", "relative"]', 'FILE:2: policy.deny-sources = ["/a","relative"]: paths are absolute'],
  ['[policy]\n\ndeny-sources = ["/a/../b"]', "FILE:3: policy.deny-sources"],
  ['[policy]\ndeny-sources = ["/a/"]', "FILE:2: policy.deny-sources"],
  ['[policy]\ndeny-sources = "/a"', 'FILE:2: policy.deny-sources = "/a": Invalid input: expected array'],
  ['[policy.root]\ndeny-extensions = [".iso"]', 'FILE:2: policy.root.deny-extensions = [".iso"]: extensions are in small letters'],
  ["[policy.root]\nmax-size = 1", "FILE:2: policy.root.max-size is not a setting; [policy.root] has deny-sources"],
  ["\n[policy.nobody-knows-it]\nmax-file-size = 1", "FILE:2: [policy.nobody-knows-it]: there is no group 'nobody-knows-it'"],
])("a mistake is told with its file, its line and its key: %j", async (text, words) => {
  expect(policyOf(text, [0])).rejects.toThrow(words);
});
