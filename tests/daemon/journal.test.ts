// Entries for the journal's own socket: fields that can be searched, and that nobody can forge.

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { journalEntry, journalSink } from "../../src/daemon/journal.ts";
import { Log } from "../../src/log.ts";
import { havePrograms } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

test("an entry has the line, its level and its facts as fields", () => {
  expect(journalEntry("notice", "call refused uid=1000", { uid: 1000, code: "bad-path", "as-admin": true, gone: undefined })).toBe(
    "MESSAGE=call refused uid=1000\nPRIORITY=5\nSYSLOG_IDENTIFIER=copyd\nCOPYD_UID=1000\nCOPYD_CODE=bad-path\nCOPYD_AS_ADMIN=true\n",
  );
});

test("a newline in a value begins no field", () => {
  const entry = journalEntry("info", "worker says\nPRIORITY=0", { line: "x\nCOPYD_UID=0" });
  expect(entry.split("\n")).toEqual([
    "MESSAGE=worker says PRIORITY=0",
    "PRIORITY=6",
    "SYSLOG_IDENTIFIER=copyd",
    "COPYD_LINE=x COPYD_UID=0",
    "",
  ]);
});

const receiver = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
sys.stdout.write(s.recv(65536).decode())
`;

const lacking = havePrograms("python3") ? null : "python3 is not installed";
testUnless(lacking, "lines reach the socket whole, and standard error where there is none", async () => {
  await using directory = await temporaryDirectory();
  const path = `${directory.path}/socket`;
  const child = Bun.spawn(["python3", "-c", receiver, path], { stdout: "pipe", stderr: "inherit", stdin: "ignore" });
  const written: string[] = [];
  while (!existsSync(path)) await Bun.sleep(5);
  const log = new Log({ level: "info", journal: true, write: (line) => written.push(line), sink: await journalSink(path) });
  log.debug("below the level");
  log.info("job queued", { job: "a", uid: 1000 });
  expect(await new Response(child.stdout).text()).toBe(journalEntry("info", "job queued job=a uid=1000", { job: "a", uid: 1000 }));
  await child.exited;
  expect(written).toEqual([]);
  // The reader has gone; and an entry that no datagram holds goes the other way, whole.
  log.info("job ended", { job: "a" });
  log.info("long", { line: "x".repeat(9000) });
  expect(written.map((line) => line.slice(0, 20))).toEqual(["<6>job ended job=a\n", "<6>long line=xxxxxxx"]);
});
