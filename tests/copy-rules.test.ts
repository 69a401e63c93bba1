// Every rule of copying has tests, and the tests that are said to hold it are there.

import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { copyRules } from "./support/copy-rules.ts";

const ruleCount = 27;

test("each rule has a test", () => {
  const numbers = Object.keys(copyRules).map(Number);
  expect(numbers).toEqual(Array.from({ length: ruleCount }, (_, index) => index + 1));
  for (const number of numbers) expect([number, copyRules[number]?.tests.length ?? 0]).not.toEqual([number, 0]);
});

test("each test that a rule names is there", () => {
  const missing: string[] = [];
  for (const [number, { tests }] of Object.entries(copyRules)) {
    for (const [file, name] of tests) {
      const path = join(import.meta.dir, file);
      if (!existsSync(path) || !readFileSync(path, "utf8").includes(name)) missing.push(`rule ${number}: ${file}: ${name}`);
    }
  }
  expect(missing).toEqual([]);
});
