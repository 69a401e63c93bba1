// The log's lines: one line each whatever a name holds, levels as the journal reads them.

import { expect, test } from "bun:test";
import { closeSync, fstatSync, openSync } from "node:fs";
import { isJournal, Log, type LogLevel } from "../src/log.ts";
import { runChecked } from "./support/process.ts";

function linesOf(settings: { level?: LogLevel; journal?: boolean }, body: (log: Log) => void): string[] {
  const lines: string[] = [];
  body(new Log({ level: "info", journal: false, write: (line) => lines.push(line), ...settings }));
  return lines;
}

test("a line has its level, its words and its facts", () => {
  const lines = linesOf({}, (log) =>
    log.warning("job failed", { job: "u1000/a", path: "/a b", code: "no-space", errno: 28, gone: undefined }),
  );
  expect(lines).toEqual(['copyd: warning: job failed job=u1000/a path="/a b" code=no-space errno=28\n']);
});

test("under systemd the level is a prefix that the journal takes off", () => {
  const lines = linesOf({ journal: true, level: "debug" }, (log) => {
    log.error("a");
    log.notice("b");
    log.debug("c");
  });
  expect(lines).toEqual(["<3>a\n", "<5>b\n", "<7>c\n"]);
});

test("lines below the level are dropped", () => {
  expect(linesOf({ level: "warning" }, (log) => log.info("x"))).toEqual([]);
});

test("a name with newlines and terminal controls cannot forge a line or drive a terminal", () => {
  const [line = ""] = linesOf({ journal: true }, (log) => log.info("copied\n<0>forged", { path: 'x\n<1>"\x1b[2J\x7f\u009b\u2028' }));
  expect(line).toBe('<6>copied\\n<0>forged path="x\\n<1>\\"\\u001b[2J\\u007f\\u009b\\u2028"\n');
});

test("only the journal's own stream counts as the journal", () => {
  const fd = openSync("/dev/null", "r");
  const { dev, ino } = fstatSync(fd);
  expect(isJournal(`${dev}:${ino}`, fd)).toBe(true);
  expect(isJournal(`${dev}:${ino + 1}`, fd)).toBe(false);
  expect(isJournal(undefined, fd)).toBe(false);
  closeSync(fd);
  expect(isJournal("1:2", fd)).toBe(false);
});

test("a process writes its log to standard error, and survives a reader that is gone", async () => {
  const source = `import { log } from "${import.meta.dir}/../src/log.ts"; for (let i = 0; i < 20000; i++) log.info("line " + i); console.log("alive");`;
  const result = await runChecked(["bash", "-c", `"$0" -e "$1" 2> >(head -n 1 >&2)`, process.execPath, source]);
  expect(result.stderr).toBe("copyd: info: line 0\n");
  expect(result.stdout).toBe("alive\n");
});
