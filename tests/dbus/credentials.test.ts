// Who calls is what the bus says, as long as the caller is there; whatever is missing denies.

import { expect, test } from "bun:test";
import { connectBus } from "../../src/dbus/connection.ts";
import { Credentials } from "../../src/dbus/credentials.ts";
import { createUserDatabase, type UserDatabase } from "../../src/dbus/user-database.ts";
import { Variant } from "../../src/dbus/values.ts";
import { privateBus, whyNoBus } from "../support/bus.ts";
import { hostileBus } from "../support/hostile-bus.ts";
import { testUnless } from "../support/skip.ts";

const ownUid = process.getuid?.() ?? -1;

/** Asks on a real bus about another connection of ours. */
async function withCaller(
  { users = createUserDatabase(), onlyUid = null }: { readonly users?: UserDatabase; readonly onlyUid?: number | null },
  body: (credentials: Credentials, caller: string) => Promise<void>,
): Promise<void> {
  await using bus = await privateBus({ kind: "session" });
  const caller = await bus.connect();
  await body(new Credentials(await bus.connect(), users, onlyUid), caller.uniqueName);
}

testUnless(whyNoBus(), "a caller has the uid and groups of its connection, and is known until it leaves", () =>
  withCaller({}, async (credentials, caller) => {
    expect(await credentials.identify(caller)).toMatchObject({ uid: ownUid });
    expect(await credentials.processOf(caller)).toBe(process.pid);
    credentials.requirePresent(caller);
    credentials.forget(caller);
    expect(() => credentials.requirePresent(caller)).toThrow("has left");
  }),
);

testUnless(whyNoBus(), "a caller that leaves while the bus is asked about it is refused", () =>
  withCaller({}, async (credentials, caller) => {
    const asked = credentials.identify(caller);
    credentials.forget(caller);
    await expect(asked).rejects.toThrow("has left");
  }),
);

testUnless(whyNoBus(), "on the session bus nobody is served but its user", async () => {
  await withCaller({ onlyUid: ownUid }, async (credentials, caller) => {
    expect((await credentials.identify(caller)).uid).toBe(ownUid);
  });
  await withCaller({ onlyUid: ownUid + 1 }, async (credentials, caller) => {
    await expect(credentials.identify(caller)).rejects.toThrow("serves one user, who is not the caller");
  });
});

testUnless(whyNoBus(), "a user whom the database does not know, or in whose primary group the caller is not, is refused", async () => {
  for (const [gid, reason] of [
    [undefined, "does not know uid"],
    [987_654, "is not in the primary group of its user, 987654"],
  ] as const) {
    await withCaller({ users: { primaryGid: async () => gid } }, async (credentials, caller) => {
      await expect(credentials.identify(caller)).rejects.toThrow(reason);
    });
  }
});

testUnless(whyNoBus(), "what is no unique name, or no connection, is nobody", () =>
  withCaller({}, async (credentials) => {
    await expect(credentials.identify("org.example.Name")).rejects.toThrow("no sender");
    await expect(credentials.identify(":1.999")).rejects.toThrow("does not say");
  }),
);

test("half an answer of the bus is none, and the uid that stands for nobody is nobody's", async () => {
  const groups = new Variant("au", [0]);
  for (const [answer, reason] of [
    [{ UnixGroupIDs: groups }, "which user is calling"],
    [{ UnixUserID: new Variant("s", "0"), UnixGroupIDs: groups }, "which user is calling"],
    [{ UnixUserID: new Variant("u", 0xffff_ffff), UnixGroupIDs: groups }, "which user is calling"],
    [{ UnixUserID: new Variant("u", 0) }, "which groups the caller is in"],
    [{ UnixUserID: new Variant("u", 0), UnixGroupIDs: new Variant("as", ["0"]) }, "which groups the caller is in"],
  ] as const) {
    await using bus = await hostileBus(new Map(Object.entries(answer)));
    const connection = await connectBus(bus.address);
    const credentials = new Credentials(connection, { primaryGid: async () => 0 }, null);
    await expect(credentials.identify(":1.5")).rejects.toThrow(reason);
    connection.close();
  }
});
