// A bus that hands on whatever it likes: enough of a real one for the service to start, and none of its checks.

import { chmod } from "node:fs/promises";
import { encodeMessage, type Message, MessageReader, MessageType, type OutgoingMessage } from "../../src/dbus/codec.ts";
import { Variant, type WireValue } from "../../src/dbus/values.ts";
import { temporaryDirectory } from "./temporary.ts";

export interface HostileBus extends AsyncDisposable {
  readonly address: string;
  /** Sends bytes to the service as they are. */
  sendRaw(bytes: Buffer): void;
  /** A method call as bytes, from a caller that the bus says is root. */
  encodeCall(call: Omit<OutgoingMessage, "type">, serial: number): Buffer;
  /** The service's replies by the serial they answer: an error's name, or "return". */
  readonly replies: Map<number, string>;
  /** Resolves when the service has answered the call of that serial. */
  answered(serial: number): Promise<string>;
}

/** Who the bus says is calling. */
const root = new Map([
  ["UnixUserID", new Variant("u", 0)],
  ["UnixGroupIDs", new Variant("au", [0])],
]);

const driverAnswers: Readonly<Record<string, readonly [string, readonly WireValue[]]>> = {
  Hello: ["s", [":1.1"]],
  AddMatch: ["", []],
  NameHasOwner: ["b", [false]],
  RequestName: ["u", [1]],
  ReleaseName: ["u", [1]],
};

/** Listens for one service. `credentials`: what it says of every caller. */
export async function hostileBus(credentials: ReadonlyMap<string, Variant> = root): Promise<HostileBus> {
  const temporary = await temporaryDirectory();
  await chmod(temporary.path, 0o755);
  const path = `${temporary.path}/socket`;
  const replies = new Map<number, string>();
  let open: Bun.Socket | undefined;
  let serial = 1;
  const waiting: Buffer[] = [];
  const flush = (): void => {
    for (let first = waiting[0]; open !== undefined && first !== undefined; first = waiting[0]) {
      const written = Math.max(0, open.write(first));
      if (written < first.length) {
        waiting[0] = first.subarray(written);
        return;
      }
      waiting.shift();
    }
  };
  const sendRaw = (bytes: Buffer): void => {
    waiting.push(bytes);
    flush();
  };
  const receive = (message: Message): void => {
    if (message.type === MessageType.call) {
      const { member = "" } = message;
      const [signature, body] =
        member === "GetConnectionCredentials" ? ["a{sv}", [new Map(credentials)]] : (driverAnswers[member] ?? ["", []]);
      const reply = { type: MessageType.return, replySerial: message.serial, destination: ":1.1", signature, body };
      sendRaw(encodeMessage({ ...reply, sender: "org.freedesktop.DBus" } as OutgoingMessage, serial++));
    } else if (message.replySerial !== undefined) {
      replies.set(message.replySerial, message.errorName ?? "return");
    }
  };
  const reader = new MessageReader({ maxMessageBytes: 1 << 24, maxValues: 1 << 20 }, { message: receive, refused: () => undefined });
  let isBegun = false;
  const server = Bun.listen({
    unix: path,
    socket: {
      open: (socket) => {
        open = socket;
      },
      drain: flush,
      data: (socket, chunk) => {
        if (isBegun) {
          reader.push(chunk);
          return;
        }
        const text = chunk.toString("latin1");
        if (text.includes("AUTH")) socket.write("OK 0123456789abcdef0123456789abcdef\r\n");
        const begin = chunk.indexOf("BEGIN\r\n");
        if (begin < 0) return;
        isBegun = true;
        if (chunk.length > begin + 7) reader.push(chunk.subarray(begin + 7));
      },
    },
  });
  return {
    address: `unix:path=${path}`,
    sendRaw,
    replies,
    encodeCall: (call, callSerial) =>
      encodeMessage({ ...call, type: MessageType.call, destination: ":1.1", sender: ":1.5" } as OutgoingMessage, callSerial),
    async answered(callSerial) {
      const deadline = Date.now() + 30_000;
      for (;;) {
        const reply = replies.get(callSerial);
        if (reply !== undefined) return reply;
        if (Date.now() > deadline) throw new Error(`call ${callSerial} is not answered`);
        await Bun.sleep(2);
      }
    },
    async [Symbol.asyncDispose]() {
      server.stop(true);
      await temporary[Symbol.asyncDispose]();
    },
  };
}
