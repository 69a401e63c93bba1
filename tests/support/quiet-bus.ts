// A bus that says nothing by itself: for tests of what waits for its answers.

import { encodeMessage, MessageType, type OutgoingMessage } from "../../src/dbus/codec.ts";
import { driver } from "../../src/dbus/connection.ts";
import { temporaryDirectory } from "./temporary.ts";

/** A bus that says nothing by itself: `heard` has what came, and `say` answers. */
export async function quietBus() {
  const directory = await temporaryDirectory();
  const socket = `${directory.path}/socket`;
  const heard: Buffer[] = [];
  let open: Bun.Socket | undefined;
  const server = Bun.listen({
    unix: socket,
    socket: {
      open(accepted) {
        open = accepted;
      },
      data(_accepted, chunk) {
        heard.push(chunk);
      },
    },
  });
  return {
    address: `unix:path=${socket}`,
    async heard(bytes: number): Promise<Buffer> {
      for (let waited = 0; Buffer.concat(heard).length < bytes && waited < 5000; waited += 5) await Bun.sleep(5);
      return Buffer.concat(heard);
    },
    say(bytes: Buffer): void {
      open?.write(bytes);
    },
    async [Symbol.asyncDispose]() {
      server.stop(true);
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** What a bus answers to the call with this serial. */
export function reply(serial: number, values: readonly string[]): Buffer {
  const type = MessageType.return;
  const [signature, sender] = [values.length === 0 ? "" : "s", driver.name];
  return encodeMessage({ type, replySerial: serial, destination: ":1.1", sender, signature, body: values } as OutgoingMessage, serial);
}
