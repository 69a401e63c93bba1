// src/ffi/layout.ts says what the C headers of this machine say.

import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { generateLayout, layoutFile, whyNotGenerated } from "../../scripts/generate-layout.ts";
import { testUnless } from "../support/skip.ts";

testUnless(whyNotGenerated(), "the layout is what the generator makes of the headers", () => {
  expect(generateLayout()).toBe(readFileSync(layoutFile, "utf8"));
});
