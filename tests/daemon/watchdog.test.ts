// The watchdog's pings reach the socket that systemd names, from this very process, and only where they were asked for.

import { expect, test } from "bun:test";
import { startWatchdog, watchdogIntervalMs } from "../../src/daemon/watchdog.ts";
import { unixDatagrams } from "../../src/ffi/unix-datagram.ts";
import { havePrograms } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const unlessPython = havePrograms("python3") ? null : "python3 is not installed";

/** Prints each datagram with the pid that sent it, as the kernel says, until it has had three. */
const listener = `
import socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.bind(sys.argv[1].replace("@", "\\0", 1) if sys.argv[1].startswith("@") else sys.argv[1])
print("bound", flush=True)
for _ in range(3):
    data, ancillary, _, _ = s.recvmsg(4096, 1024)
    print(data.decode(), struct.unpack("iii", ancillary[0][2])[0], flush=True)
`;

for (const kind of ["path", "abstract"]) {
  testUnless(unlessPython, `pings arrive again and again at a socket with ${kind === "path" ? "a path" : "an abstract name"}`, async () => {
    await using directory = await temporaryDirectory();
    const name = kind === "path" ? `${directory.path}/notify` : `@copyd-test-${process.pid}`;
    const child = Bun.spawn(["python3", "-c", listener, name], { stdin: "ignore", stdout: "pipe", stderr: "inherit", timeout: 20_000 });
    const lines = child.stdout.getReader();
    const first = await lines.read();
    let text = Buffer.from(first.value ?? []).toString();
    using _watchdog = await startWatchdog({ NOTIFY_SOCKET: name, WATCHDOG_USEC: "60000", WATCHDOG_PID: String(process.pid) });
    for (let chunk = await lines.read(); chunk.value !== undefined; chunk = await lines.read()) text += Buffer.from(chunk.value).toString();
    const ping = `WATCHDOG=1 ${process.pid}\n`;
    expect(text).toBe(`bound\n${ping}${ping}${ping}`);
  });
}

test("the interval is taken only when it is meant for this process", () => {
  expect(watchdogIntervalMs({ WATCHDOG_USEC: "30000000" }, 7)).toBe(30_000);
  expect(watchdogIntervalMs({ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "7" }, 7)).toBe(30_000);
  expect(watchdogIntervalMs({ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "8" }, 7)).toBe(null);
  for (const usec of [undefined, "", "0", "-1", "soon"]) expect(watchdogIntervalMs({ WATCHDOG_USEC: usec }, 7)).toBe(null);
});

test("a socket that nobody listens at, or whose name is none, is no error", () => {
  using nobody = unixDatagrams("/nonexistent/notify");
  expect(nobody?.send("WATCHDOG=1")).toBe(false);
  expect(unixDatagrams("")).toBe(null);
  expect(unixDatagrams(`/${"x".repeat(200)}`)).toBe(null);
});
