// How an interface is described in code: what the dispatcher checks calls against and what introspection answers.

type Argument = readonly [name: string, signature: string];

export interface MethodDescription {
  readonly in: readonly Argument[];
  readonly out: readonly Argument[];
}

export interface PropertyDescription {
  readonly type: string;
  readonly emits: "true" | "invalidates" | "const" | "false";
}

export interface InterfaceDescription {
  readonly methods: Readonly<Record<string, MethodDescription>>;
  readonly signals: Readonly<Record<string, readonly Argument[]>>;
  readonly properties: Readonly<Record<string, PropertyDescription>>;
}

/** The signatures of arguments as one. */
export function signatureOf(args: readonly Argument[]): string {
  return args.map(([, signature]) => signature).join("");
}

/** Introspection XML of one interface. */
export function interfaceXml(name: string, description: InterfaceDescription): string {
  const lines = [`  <interface name="${name}">`];
  for (const [method, { in: inArgs, out }] of Object.entries(description.methods)) {
    const args = [...inArgs.map((arg) => argXml(arg, "in")), ...out.map((arg) => argXml(arg, "out"))];
    lines.push(`    <method name="${method}">`, ...args, "    </method>");
  }
  for (const [signal, args] of Object.entries(description.signals)) {
    lines.push(`    <signal name="${signal}">`, ...args.map((arg) => argXml(arg)), "    </signal>");
  }
  for (const [property, { type, emits }] of Object.entries(description.properties)) {
    lines.push(
      `    <property name="${property}" type="${type}" access="read">`,
      `      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="${emits}"/>`,
      "    </property>",
    );
  }
  return [...lines, "  </interface>"].join("\n");
}

function argXml([name, type]: Argument, direction?: "in" | "out"): string {
  return `      <arg name="${name}" type="${type}"${direction === undefined ? "" : ` direction="${direction}"`}/>`;
}
