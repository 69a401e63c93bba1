// Progress: what a line says in how many columns, when it is drawn, and that no file name can steer the terminal.

import { expect, test } from "bun:test";
import { type ByteString, byteStringFromText } from "../../src/bytes.ts";
import { ProgressDisplay, type ProgressTerminal, progressStyle } from "../../src/cli/progress.ts";
import { fractionOf, type LineStyle, type ProgressView, progressLine, progressSentence } from "../../src/cli/progress-line.ts";
import { columnsOf, cutStart, escapeControls, visibleText } from "../../src/cli/terminal-text.ts";
import { formatBytes, formatCount, formatDuration } from "../../src/cli/units.ts";

const halfway: ProgressView = {
  state: "running",
  phase: "copying",
  totalsValid: true,
  bytesTotal: 3_400_000_000,
  bytesDone: 1_428_000_000,
  bytesVerified: 0,
  bytesToVerify: 0,
  filesTotal: 30_000,
  filesDone: 12_345,
  filesSkipped: 0,
  errorCount: 0,
  rate: 312_000_000,
  expectedEndTimeUs: 1_000_007_000_000,
  currentFile: byteStringFromText("/home/me/pictures/2024/summer/beach.jpg"),
};
const plain: LineStyle = { columns: 79, color: false, charset: "utf-8", nowUs: 1_000_000_000_000 };

test("a line says percentage, amount, rate, time left, files and the file", () => {
  expect(progressLine(halfway, { ...plain, columns: 199 })).toBe(
    ` 42% ${"━".repeat(17)}${"─".repeat(23)}  1.4 GB of 3.4 GB  312 MB/s  0:07 left  12,345 files  /home/me/pictures/2024/summer/beach.jpg`,
  );
});

test("no line is wider than its columns, whatever they are, and none is longer in bytes than it looks", () => {
  const views: ProgressView[] = [
    halfway,
    { ...halfway, totalsValid: false },
    { ...halfway, phase: "flushing" },
    { ...halfway, state: "paused", errorCount: 3 },
    { ...halfway, bytesTotal: 0, bytesDone: 0 },
    { ...halfway, currentFile: byteStringFromText("/漢字/とても長い名前のファイル/👩‍👩‍👧‍👦/é.txt") },
    { ...halfway, currentFile: "/\xff\xfe\x1b[2J\n/x" as ByteString },
  ];
  for (const view of views) {
    for (let columns = 1; columns <= 220; columns++) {
      for (const charset of ["utf-8", "ascii"] as const) {
        const line = progressLine(view, { ...plain, columns, charset });
        expect(columnsOf(line), JSON.stringify(line)).toBeLessThanOrEqual(columns);
        expect(line).not.toMatch(/\p{Cc}/u);
      }
    }
  }
});

test("in 40 columns the least important parts are left out first", () => {
  expect(progressLine(halfway, { ...plain, columns: 39 })).toBe(" 42%  1.4 GB of 3.4 GB  312 MB/s");
  expect(progressLine({ ...halfway, phase: "verifying" }, { ...plain, columns: 39 })).toBe(" 42%  verifying  1.4 GB of 3.4 GB");
  expect(progressLine(halfway, { ...plain, columns: 4 })).toBe(" 42%");
});

test("there is no percentage before the totals are known, and the total found so far is marked", () => {
  const line = progressLine({ ...halfway, totalsValid: false }, plain);
  expect(line).not.toContain("%");
  expect(line).not.toContain("left");
  expect(line).toContain("1.4 GB of 3.4 GB+");
});

test("100 % is not shown before the end, and files count where there are no bytes", () => {
  expect(fractionOf({ ...halfway, bytesDone: halfway.bytesTotal })).toBe(0.999);
  expect(fractionOf({ ...halfway, bytesDone: halfway.bytesTotal, state: "completed" })).toBe(1);
  expect(fractionOf({ ...halfway, bytesTotal: 0, filesDone: 7_000, filesSkipped: 500 })).toBe(0.25);
  expect(fractionOf({ ...halfway, bytesTotal: 0, filesTotal: 0 })).toBeNull();
});

test("flushing, verifying, waiting, pausing and errors are said", () => {
  const line = (change: Partial<ProgressView>): string => progressLine({ ...halfway, ...change }, { ...plain, columns: 150 });
  expect(line({ phase: "flushing" })).toContain("flushing to the device");
  expect(line({ phase: "flushing", state: "finishing" })).toMatch(/flushing to the device .* left/);
  expect(line({ phase: "verifying" })).toContain("verifying");
  expect(line({ state: "queued" })).toContain("waiting");
  expect(line({ state: "paused" })).toContain("paused");
  expect(line({ errorCount: 1 })).toContain("1 error  ");
  expect(line({ errorCount: 2000 })).toContain("2,000 errors");
});

test("names show their odd bytes and never act on the terminal", () => {
  expect(visibleText("a\x1b[31m\n\x07\x7f\xffb" as ByteString)).toBe("a\\e[31m\\n\\x07\\x7f\ufffdb");
  expect(visibleText(byteStringFromText("\u202egpj.exe\u2028\u0085"))).toBe("\\u{202e}gpj.exe\\u{2028}\\x85");
  expect(escapeControls("👩‍👧 ok")).toBe("👩‍👧 ok");
});

test("a name is cut at its start, between characters and by their width", () => {
  expect(cutStart("/a/b/c.txt", 20, "…")).toBe("/a/b/c.txt");
  expect(cutStart("/a/b/c.txt", 6, "…")).toBe("…c.txt");
  expect(cutStart("漢字漢字", 5, "…")).toBe("…漢字");
  expect(cutStart("漢字漢字", 4, "…")).toBe("…字");
  expect(cutStart("ae\u0301", 2, "…")).toBe("ae\u0301");
  expect(cutStart("abc", 0, "…")).toBe("");
  expect(columnsOf(cutStart(`${"x".repeat(100_000)}👩‍👩‍👧‍👦`, 10, "..."))).toBe(10);
});

test("units take as few characters as they can", () => {
  expect([0, 999, 1000, 9_949, 9_960, 999_499, 999_500, 1.5e12].map(formatBytes)).toEqual([
    "0 B",
    "999 B",
    "1.0 kB",
    "9.9 kB",
    "10 kB",
    "999 kB",
    "1.0 MB",
    "1.5 TB",
  ]);
  expect([0, 999, 1000, 1234567].map(formatCount)).toEqual(["0", "999", "1,000", "1,234,567"]);
  expect([0, 7, 754, 3723, 273_600].map(formatDuration)).toEqual(["0:00", "0:07", "12:34", "1:02:03", "3d 04h"]);
});

/** A terminal that is a list of what was written, and a clock that is set. */
function scene(mode: "line" | "sentences" | "off", columns = 80) {
  const written: string[] = [];
  const clock = { ms: 1_000_000_000 };
  const size = { columns };
  const terminal: ProgressTerminal = { isTerminal: true, columns: () => size.columns, write: (text) => written.push(text) };
  const display = new ProgressDisplay({ mode, color: false, charset: "utf-8" }, terminal, () => clock.ms);
  return { written, clock, size, display };
}

test("nothing is drawn for what is done at once", () => {
  const { written, clock, display } = scene("line");
  display.update(halfway);
  clock.ms += 300;
  display.update(halfway);
  display.close();
  expect(written).toEqual([]);
});

test("a line is drawn ten times a second at most, over itself, and cleared at the end", () => {
  const { written, clock, display } = scene("line");
  clock.ms += 500;
  for (let update = 0; update < 100; update++) {
    display.update(halfway);
    clock.ms += 10;
  }
  expect(written.length).toBe(10);
  for (const text of written) expect(text.startsWith("\r\x1b[K")).toBe(true);
  display.close();
  expect(written.at(-1)).toBe("\r\x1b[K");
});

test("others print on a clear line, and the progress comes back", () => {
  const { written, clock, display } = scene("line");
  clock.ms += 500;
  display.update(halfway);
  display.interrupt(() => written.push("cp: cannot stat 'x'\n"));
  clock.ms += 100;
  display.update(halfway);
  display.close();
  expect(written.slice(1, 3)).toEqual(["\r\x1b[K", "cp: cannot stat 'x'\n"]);
  expect(written).toHaveLength(5);
});

test("a line that a narrower terminal has wrapped is cleared whole", () => {
  const { written, clock, size, display } = scene("line", 80);
  clock.ms += 500;
  display.update(halfway);
  size.columns = 30;
  clock.ms += 100;
  display.update(halfway);
  display.close();
  expect(written[1]?.startsWith("\r\x1b[2A\x1b[J")).toBe(true);
  expect(columnsOf((written[1] ?? "").replace("\r\x1b[2A\x1b[J", ""))).toBeLessThan(30);
});

test("sentences come once a second and without control codes", () => {
  const { written, clock, display } = scene("sentences");
  for (let update = 0; update < 40; update++) {
    display.update({ ...halfway, currentFile: "/\x1b[2Jx" as ByteString });
    clock.ms += 100;
  }
  display.close();
  expect(written).toHaveLength(4);
  expect(written[0]).toBe("42%, 1.4 GB of 3.4 GB, 312 MB/s, 0:07 left, 12,345 files, /\\e[2Jx\n");
  expect(progressSentence(halfway, 1_000_000_000_000)).toContain("0:07 left");
});

test("progress is drawn on a terminal that can, said in a pipe only when asked, coloured unless NO_COLOR", () => {
  const style = (when: "auto" | "always" | "never", isTerminal: boolean, environment: Record<string, string>) =>
    progressStyle(when, { isTerminal }, environment, "utf-8");
  const xterm = { TERM: "xterm" };
  expect(style("auto", true, xterm)).toMatchObject({ mode: "line", color: true });
  expect(style("auto", true, { TERM: "dumb" }).mode).toBe("off");
  expect(style("auto", true, {}).mode).toBe("off");
  expect(style("always", true, { TERM: "dumb" }).mode).toBe("sentences");
  expect(style("auto", false, xterm).mode).toBe("off");
  expect(style("always", false, xterm).mode).toBe("sentences");
  expect(style("never", true, xterm).mode).toBe("off");
  expect(style("auto", true, { ...xterm, NO_COLOR: "1" }).color).toBe(false);
});

test("with verification, copying is the first half of the bar and reading back the second", () => {
  const verified: ProgressView = { ...halfway, bytesDone: 3_400_000_000, bytesToVerify: 3_400_000_000 };
  expect(fractionOf(verified)).toBe(0.5);
  const reading: ProgressView = { ...verified, state: "finishing", phase: "verifying", bytesVerified: 1_700_000_000 };
  expect(fractionOf(reading)).toBe(0.75);
  const line = progressLine(reading, { ...plain, columns: 120 });
  expect(line).toStartWith(" 75% ");
  expect(line).toContain("verifying  1.7 GB of 3.4 GB  0:07 left");
});
