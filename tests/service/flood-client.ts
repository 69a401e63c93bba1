// A client for the flood's test, as another user: `quiet` copies small files and calls, and says how long each took; `mixed` does
// everything that a user may do to keep the service busy, and `largest` only what costs others the most, until it is killed.

import { connectService } from "../../src/dbus/client.ts";
import { connectBus } from "../../src/dbus/connection.ts";
import { busName, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import type { Variant, WireValue } from "../../src/dbus/values.ts";
import { requestSchema } from "../../src/request-schema.ts";

const [role = "", address = "", directory = "", count = "0"] = process.argv.slice(2);
const bytes = (text: string): Buffer => Buffer.from(`${text}\0`, "latin1");

async function quiet(): Promise<void> {
  const client = await connectService({ address });
  const connection = await connectBus(address);
  const copies: number[] = [];
  const calls: number[] = [];
  for (let round = 0; round < Number(count); round++) {
    const request = requestSchema.parse({
      operation: "copy",
      sources: [`${directory}/small`],
      destination: `${directory}/copy-${performance.now()}`,
      options: { durability: "none" },
    });
    const began = performance.now();
    const watch = await client.submitAndWatch(request);
    for await (const event of watch)
      if (event.type === "ended" && event.job.state !== "completed") throw new Error(JSON.stringify(event.job.result));
    copies.push(performance.now() - began);
    for (let call = 0; call < 5; call++) {
      const before = performance.now();
      await connection
        .call(
          { destination: busName, path: rootPath, interface: managerInterface, member: "GetJob", signature: "s", body: ["none"] },
          20_000,
        )
        .catch(() => undefined);
      calls.push(performance.now() - before);
    }
  }
  process.stdout.write(`${JSON.stringify({ copies, calls })}\n`);
  process.exit(0);
}

async function flood(kind: "mixed" | "largest"): Promise<void> {
  const many = Array.from({ length: 16_384 }, (_, index) => bytes(`/nonexistent/some/long/directory/${index}`));
  const connections = await Promise.all(Array.from({ length: 12 }, () => connectBus(address)));
  const call = (index: number, member: string, signature: string, body: readonly WireValue[]): Promise<unknown> => {
    const connection = connections[index % connections.length];
    return (
      connection
        ?.call({ destination: busName, path: rootPath, interface: managerInterface, member, signature, body }, 60_000)
        .catch(() => undefined) ?? Promise.resolve()
    );
  };
  const none = new Map<string, Variant>();
  const repeat = async (depth: number, make: (index: number) => Promise<unknown>): Promise<void> => {
    const loop = async (index: number): Promise<void> => {
      for (;;) await make(index);
    };
    await Promise.all(Array.from({ length: depth }, (_, index) => loop(index)));
  };
  const largest = (index: number): Promise<unknown> => call(index, "Copy", "aayaya{sv}", [many, bytes("/tmp"), none]);
  if (kind === "largest") {
    process.stdout.write("flooding\n");
    await repeat(8, largest);
    return;
  }
  // Jobs enough to fill the queue, none of which finds anything; as large as they may be; lists of them; subscriptions; nonsense.
  for (let job = 0; job < 300; job++)
    void call(job, "Copy", "aayaya{sv}", [[bytes(`${directory}/large`)], bytes(`${directory}/flood-${job}`), none]);
  process.stdout.write("flooding\n");
  await Promise.all([
    repeat(8, largest),
    repeat(16, (index) => call(index, "ListJobs", "a{sv}", [none])),
    repeat(16, (index) => call(index, "Subscribe", "a{sv}", [none])),
    repeat(64, (index) => call(index, "Nonsense", "s", ["x".repeat(1000)])),
  ]);
}

await (role === "mixed" || role === "largest" ? flood(role) : quiet());
