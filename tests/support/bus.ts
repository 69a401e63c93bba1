// A private dbus-daemon: a real bus of the system or the session kind, with copyd's own policy and, on request, activation.

import { chmod, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type BusConnection, connectBus } from "../../src/dbus/connection.ts";
import { havePrograms } from "./process.ts";
import { temporaryDirectory } from "./temporary.ts";

export interface PrivateBus extends AsyncDisposable {
  readonly address: string;
  /** A directory that every user may enter, removed with the bus. */
  readonly directory: string;
  /** A new connection as ourselves; closed with the bus if not before. */
  connect(): Promise<BusConnection>;
  /** Ends the daemon at once, as a crash of the bus would. */
  kill(): void;
  /** Stops the daemon, which closes nothing, and lets it go on. */
  stop(): void;
  goOn(): void;
}

export interface BusOptions {
  readonly kind: "system" | "session";
  /** The command that the bus starts when org.copyd.Copyd1 is called; it is started as root. */
  readonly activate?: readonly string[];
  /** Environment for what the bus starts, beside the bus's address and directories below the bus's own. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Why there is no private bus here, or null. */
export function whyNoBus(): string | null {
  return havePrograms("dbus-daemon", "busctl") ? null : "dbus-daemon or busctl is not installed";
}

/** Why gdbus cannot be tried here, or null. */
export function whyNoGdbus(): string | null {
  return havePrograms("gdbus") ? null : "gdbus is not installed";
}

const policyFile = new URL("../../dbus/org.copyd.Copyd1.conf", import.meta.url).pathname;

/** What Debian's system.conf says by default, as far as it matters here, then copyd's policy; test names may be anybody's. */
const systemPolicy = `
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.PolicyKit1"/>
    <allow send_destination="org.freedesktop.login1"/>
  </policy>
  <policy user="root">
    <allow own="org.freedesktop.PolicyKit1"/>
    <allow own="org.freedesktop.login1"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
  </policy>
  <include>${policyFile}</include>`;

const sessionPolicy = `
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>`;

/** Starts a bus. */
export async function privateBus(options: BusOptions): Promise<PrivateBus> {
  const temporary = await temporaryDirectory();
  const directory = temporary.path;
  await chmod(directory, 0o755);
  const services = join(directory, "services");
  await mkdir(services);
  if (options.activate !== undefined) {
    const env = { STATE_DIRECTORY: `${directory}/state`, DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${directory}/socket`, ...options.env };
    const exec = ["/usr/bin/env", ...Object.entries(env).map(([key, value]) => `${key}=${value}`), ...options.activate];
    const service = `[D-BUS Service]\nName=org.copyd.Copyd1\nExec=${exec.join(" ")}\nUser=root\n`;
    await Bun.write(join(services, "org.copyd.Copyd1.service"), service);
  }
  const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>${options.kind}</type>
  <listen>unix:path=${directory}/socket</listen>
  <auth>EXTERNAL</auth>
  <servicedir>${services}</servicedir>${options.kind === "system" ? systemPolicy : sessionPolicy}
</busconfig>`;
  await Bun.write(join(directory, "bus.conf"), config);
  const daemon = Bun.spawn(["dbus-daemon", `--config-file=${directory}/bus.conf`, "--nofork", "--nopidfile", "--print-address=1"], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: Bun.file(join(directory, "dbus-daemon.log")),
    env: { PATH: process.env.PATH ?? "" },
  });
  const first = await daemon.stdout.getReader().read();
  const address =
    Buffer.from(first.value ?? [])
      .toString("utf8")
      .trim()
      .split(",guid=")[0] ?? "";
  if (address === "") throw new Error(`dbus-daemon did not start: ${await Bun.file(join(directory, "dbus-daemon.log")).text()}`);
  const connections: BusConnection[] = [];
  return {
    address,
    directory,
    async connect() {
      const connection = await connectBus(address);
      connections.push(connection);
      return connection;
    },
    kill: () => daemon.kill("SIGKILL"),
    stop: () => daemon.kill("SIGSTOP"),
    goOn: () => daemon.kill("SIGCONT"),
    async [Symbol.asyncDispose]() {
      for (const connection of connections) connection.close();
      daemon.kill("SIGTERM");
      daemon.kill("SIGCONT");
      await daemon.exited;
      await temporary[Symbol.asyncDispose]();
    },
  };
}
