// Bus addresses: where the system and the session bus listen, as the D-Bus specification writes it.

/** A unix socket as Bun.connect takes it; abstract names begin with NUL. */
export interface BusAddress {
  readonly socket: string;
}

export type BusKind = "system" | "session";

type Environment = Readonly<Record<string, string | undefined>>;

/** The address of a bus from the environment, or its well-known place; undefined when there is no session bus to know of. */
export function busAddress(kind: BusKind, environment: Environment): string | undefined {
  if (kind === "system") return environment.DBUS_SYSTEM_BUS_ADDRESS || "unix:path=/run/dbus/system_bus_socket";
  if (environment.DBUS_SESSION_BUS_ADDRESS) return environment.DBUS_SESSION_BUS_ADDRESS;
  const runtime = environment.XDG_RUNTIME_DIR;
  return runtime ? `unix:path=${encodeURIComponent(runtime).replaceAll("%2F", "/")}/bus` : undefined;
}

/** The unix sockets of an address list, in order; transports that copyd does not speak (tcp, unixexec) are left out. */
export function parseBusAddress(address: string): BusAddress[] {
  const found: BusAddress[] = [];
  for (const entry of address.split(";")) {
    const colon = entry.indexOf(":");
    if (colon < 0 || entry.slice(0, colon) !== "unix") continue;
    const parameters = new Map<string, string>();
    for (const pair of entry.slice(colon + 1).split(",")) {
      const equals = pair.indexOf("=");
      if (equals > 0) parameters.set(pair.slice(0, equals), percentDecoded(pair.slice(equals + 1)));
    }
    const path = parameters.get("path");
    const abstract = parameters.get("abstract");
    if (path) found.push({ socket: path });
    else if (abstract) found.push({ socket: `\0${abstract}` });
  }
  return found;
}

function percentDecoded(text: string): string {
  const bytes = text.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return bytes === text ? text : Buffer.from(bytes, "latin1").toString("utf8");
}
