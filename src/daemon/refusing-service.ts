// A service that cannot serve, for its settings are wrong: it takes the name for a moment and tells every caller what is wrong.
//
// systemd does not tell the bus that a Type=dbus service has failed to start, so whoever called would wait for 25 s and learn
// nothing. Starting with standard settings instead would drop limits and policies without anybody's wish.

import { type Message, type MessageHeader, MessageType } from "../dbus/codec.ts";
import { type BusConnection, wantsReply } from "../dbus/connection.ts";
import { busName } from "../dbus/contract.ts";
import type { CopyError } from "../errors.ts";

/** After the last call. Then the next call starts the service anew, perhaps with settings that were corrected meanwhile. */
const quietMs = 3_000;
/** In all: who calls in a loop must not keep wrong settings in force. Five starts in ten seconds would be systemd's limit. */
const longestMs = 10_000;

/** Answers every call with this error until there are none for a while. Resolves when the name has been given up. */
export async function refuseEveryCall(connection: BusConnection, error: CopyError): Promise<void> {
  const refuse = (header: MessageHeader): void => {
    if (header.type !== MessageType.call || !wantsReply(header)) return;
    connection.send({
      type: MessageType.error,
      replySerial: header.serial,
      destination: header.sender,
      errorName: error.failure.dbusName,
      signature: "s",
      body: [`copyd does not serve: ${error.message.replaceAll("\0", "?")}. ${error.advice}`],
    });
  };
  const { promise: isQuiet, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, quietMs);
  connection.onMessage((message: Message) => {
    if (message.type === MessageType.call) timer.refresh();
    refuse(message);
  });
  connection.onRefused(refuse);
  const longest = setTimeout(resolve, longestMs);
  // systemd sends SIGTERM as soon as the name has gone: ended by that, the service would count as one that ended well.
  const onSignal = (): void => process.exit(error.failure.exitStatus);
  process.on("SIGTERM", onSignal);
  const doNotQueue = 4;
  await connection.callDriver("RequestName", "su", [busName, doNotQueue]);
  await Promise.race([isQuiet, connection.closed]);
  // Neither must keep the process once the name has gone.
  clearTimeout(timer);
  clearTimeout(longest);
  // The answer comes after every call that was meant for the name, and those are answered as they come.
  await connection.callDriver("ReleaseName", "s", [busName]).catch(() => undefined);
}
