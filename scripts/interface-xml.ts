// Reads D-Bus introspection XML into interface descriptions: enough XML for files of our own and for what services answer.

import type { InterfaceDescription } from "../src/dbus/interface-description.ts";

interface Element {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: Element[];
}

type Argument = readonly [name: string, signature: string];

/** All interfaces of the outermost node, by name. */
export function parseInterfaces(xml: string): Record<string, InterfaceDescription> {
  const interfaces: Record<string, InterfaceDescription> = {};
  for (const element of childrenOf(parseXml(xml), "interface")) interfaces[attribute(element, "name")] = describe(element);
  return interfaces;
}

/** The names of the nodes below the outermost one. */
export function parseChildNodes(xml: string): string[] {
  return childrenOf(parseXml(xml), "node").map((node) => attribute(node, "name"));
}

function describe(element: Element): InterfaceDescription {
  const methods: Record<string, { in: Argument[]; out: Argument[] }> = {};
  for (const method of childrenOf(element, "method")) {
    const withDirection = (direction: string): Argument[] =>
      childrenOf(method, "arg")
        .filter((arg) => (arg.attributes.get("direction") ?? "in") === direction)
        .map(argument);
    methods[attribute(method, "name")] = { in: withDirection("in"), out: withDirection("out") };
  }
  const signals: Record<string, Argument[]> = {};
  for (const signal of childrenOf(element, "signal")) signals[attribute(signal, "name")] = childrenOf(signal, "arg").map(argument);
  const properties: Record<string, { type: string; emits: "true" | "invalidates" | "const" | "false" }> = {};
  for (const property of childrenOf(element, "property")) {
    const name = attribute(property, "name");
    if (attribute(property, "access") !== "read") throw new Error(`${name}: every property is read-only`);
    const annotation = childrenOf(property, "annotation").find(
      (child) => attribute(child, "name") === "org.freedesktop.DBus.Property.EmitsChangedSignal",
    );
    const emits = annotation === undefined ? undefined : attribute(annotation, "value");
    if (emits !== "true" && emits !== "invalidates" && emits !== "const" && emits !== "false") {
      throw new Error(`${name}: EmitsChangedSignal is missing or unknown`);
    }
    properties[name] = { type: attribute(property, "type"), emits };
  }
  return { methods, signals, properties };
}

function argument(element: Element): Argument {
  return [attribute(element, "name"), attribute(element, "type")];
}

function childrenOf(element: Element, name: string): Element[] {
  return element.children.filter((child) => child.name === name);
}

function attribute(element: Element, name: string): string {
  const value = element.attributes.get(name);
  if (value === undefined) throw new Error(`<${element.name}> has no ${name}`);
  return value;
}

function parseXml(xml: string): Element {
  const outside = xml.replace(/<!--[\s\S]*?-->|<\?[\s\S]*?\?>|<!DOCTYPE[^>]*>/g, "");
  const top: Element = { name: "", attributes: new Map(), children: [] };
  const open: Element[] = [top];
  for (const [, closing, name = "", rest = "", selfClosing] of outside.matchAll(/<(\/?)([\w.:-]+)([^>]*?)(\/?)>/g)) {
    const parent = open.at(-1);
    if (parent === undefined) throw new Error(`unexpected </${name}>`);
    if (closing) {
      if (open.pop()?.name !== name) throw new Error(`unexpected </${name}>`);
      continue;
    }
    const attributes = new Map([...rest.matchAll(/([\w.:-]+)\s*=\s*"([^"]*)"/g)].map(([, key = "", value = ""]) => [key, value]));
    const element: Element = { name, attributes, children: [] };
    parent.children.push(element);
    if (!selfClosing) open.push(element);
  }
  const [node] = top.children;
  if (node === undefined || open.length !== 1) throw new Error("the XML is not one whole node");
  return node;
}
