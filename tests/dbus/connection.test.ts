// How a connection to a bus begins: everything is sent at once, whatever pieces the answers come in, and a refusal is one.

import { expect, test } from "bun:test";
import { type Message, MessageReader } from "../../src/dbus/codec.ts";
import { connectBus } from "../../src/dbus/connection.ts";
import { quietBus, reply } from "../support/quiet-bus.ts";

const greeting = { destination: "a.b", path: "/", interface: "org.freedesktop.DBus.Peer", member: "Ping" };
const begin = "BEGIN\r\n";

function messagesIn(bytes: Buffer): string[] {
  const members: string[] = [];
  const message = ({ member = "" }: Message): void => void members.push(member);
  const reader = new MessageReader({ maxMessageBytes: 1 << 20, maxValues: 1000 }, { message, refused: () => undefined });
  reader.push(bytes.subarray(bytes.indexOf(begin) + begin.length));
  return members;
}

for (const isWhole of [true, false]) {
  test(`nothing is waited for before Hello and the greeting are sent; the answers come ${isWhole ? "at once" : "in pieces"}`, async () => {
    await using bus = await quietBus();
    let ping: Promise<unknown> | undefined;
    const connecting = connectBus(bus.address, {
      greet: (connection) => {
        ping = connection.call(greeting, 1000).catch((error: unknown) => error);
      },
    });
    const heard = await bus.heard(200);
    expect(heard.toString("latin1")).toStartWith("\0AUTH EXTERNAL ");
    expect(messagesIn(heard)).toEqual(["Hello", "Ping"]);
    const answer = Buffer.concat([Buffer.from("OK 0123456789abcdef0123456789abcdef\r\n"), reply(1, [":1.7"]), reply(2, [])]);
    const step = isWhole ? answer.length : Math.ceil(answer.length / 30);
    for (let at = 0; at < answer.length; at += step) {
      bus.say(answer.subarray(at, at + step));
      if (!isWhole) await Bun.sleep(2);
    }
    const connection = await connecting;
    expect(connection.uniqueName).toBe(":1.7");
    expect(await ping).not.toBeInstanceOf(Error);
    connection.close();
  });
}

test("a bus that refuses us is none, and the greeting fails with it", async () => {
  await using bus = await quietBus();
  let ping: Promise<unknown> | undefined;
  const connecting = connectBus(bus.address, {
    greet: (connection) => {
      ping = connection.call(greeting, 5000).catch((error: unknown) => error);
    },
  });
  const failed = connecting.catch((error: Error) => error.message);
  await bus.heard(50);
  bus.say(Buffer.from("REJECTED EXTERNAL\r\n"));
  expect(await failed).toContain("refused to authenticate us");
  expect(await ping).toBeInstanceOf(Error);
});
