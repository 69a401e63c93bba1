// One datagram to a Unix socket: what systemd's notify socket takes, and what Bun has no call for.
//
// The one file of this folder that the service itself loads: systemd hears a watchdog's pings from the service's main process only
// (NotifyAccess=main), because a child may be a user's worker. So it stands alone and binds three calls.

import { dlopen, ptr } from "bun:ffi";

const unixFamily = 1;
const datagramCloseOnExec = 0o2000000 | 2;
const noSignal = 0x4000;
/** struct sockaddr_un: a family of two bytes and a path of 108. */
const addressLength = 110;
const pathLength = 108;

export interface UnixDatagrams extends Disposable {
  /** Sends bytes; false where nobody takes them. */
  send(text: string): boolean;
}

/** A socket that sends to `path`, where a leading "@" stands for the abstract namespace. null where there can be none. */
export function unixDatagrams(path: string): UnixDatagrams | null {
  const name = Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : path, "utf8");
  if (name.length === 0 || name.length >= pathLength) return null;
  const { symbols: c } = dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    sendto: { args: ["i32", "ptr", "u64", "i32", "ptr", "u32"], returns: "i32" },
    close: { args: ["i32"], returns: "i32" },
  });
  const fd = c.socket(unixFamily, datagramCloseOnExec, 0);
  if (fd < 0) return null;
  // Large enough to stay where it is when the JIT tiers up.
  const memory = new Uint8Array(new ArrayBuffer(8192));
  new DataView(memory.buffer).setUint16(0, unixFamily, true);
  memory.set(name, 2);
  const body = memory.subarray(addressLength);
  // A path ends with its NUL; an abstract name is as long as it is said to be.
  const length = 2 + name.length + (path.startsWith("@") ? 0 : 1);
  return {
    send(text) {
      const { written } = new TextEncoder().encodeInto(text, body);
      const address = ptr(memory);
      return c.sendto(fd, ptr(memory, addressLength), written, noSignal, address, length) === written;
    },
    [Symbol.dispose]() {
      c.close(fd);
    },
  };
}
