// The XML is the API: whole, documented, and what the generated contract says.

import { expect, test } from "bun:test";
import { parseInterfaces } from "../../scripts/interface-xml.ts";
import { contract } from "../../src/dbus/contract.ts";
import { type InterfaceDescription, interfaceXml } from "../../src/dbus/interface-description.ts";
import { type FailureCode, failures } from "../../src/errors.ts";

const xml = await Bun.file(new URL("../../dbus/org.copyd.Copyd1.xml", import.meta.url)).text();

test("the generated contract is what the XML says", () => {
  expect(parseInterfaces(xml)).toEqual(contract as never);
});

test("every member and every argument is documented", () => {
  const comments = [...xml.matchAll(/<!--([\s\S]*?)-->\s*<(method|signal|property|interface) name="([^"]+)"/g)];
  const documented = new Map(comments.map(([, comment = "", , name = ""]) => [name, comment]));
  for (const [name, description] of Object.entries<InterfaceDescription>(contract)) {
    expect(documented.get(name), name).toContain("@short_description:");
    for (const [method, { in: inArgs, out }] of Object.entries(description.methods)) {
      expect(documented.get(method), method).toContain(`${method}:`);
      for (const [arg] of [...inArgs, ...out]) expect(documented.get(method), method).toContain(`@${arg}:`);
    }
    for (const [signal, args] of Object.entries(description.signals)) {
      for (const [arg] of args) expect(documented.get(signal), signal).toContain(`@${arg}:`);
    }
    for (const property of Object.keys(description.properties)) expect(documented.get(property), property).toContain(`${property}:`);
  }
});

test("the XML that the service answers describes the same interfaces", () => {
  const answered = Object.entries<InterfaceDescription>(contract).map(([name, description]) => interfaceXml(name, description));
  expect(parseInterfaces(`<node>${answered.join("\n")}</node>`)).toEqual(contract as never);
});

test("what must be there is there", () => {
  const { "org.copyd.Copyd1.Manager": manager, "org.copyd.Copyd1.Job": job } = contract;
  expect(Object.keys(manager.methods)).toEqual(
    expect.arrayContaining([
      "Copy",
      "Move",
      "CopyUris",
      "MoveUris",
      "CopyAsAdmin",
      "MoveAsAdmin",
      "Preview",
      "ListJobs",
      "GetJob",
      "Subscribe",
      "Unsubscribe",
    ]),
  );
  expect(Object.keys(job.methods)).toEqual(
    expect.arrayContaining(["Pause", "Resume", "Cancel", "Wait", "Answer", "SetOptions", "GetErrors", "Forget"]),
  );
  expect(manager.methods.Preview.out.map(([, signature]) => signature)).toEqual(["a{sv}", "a(ssayayta{sv})"]);
  expect(job.signals.Finished.map(([, signature]) => signature)).toEqual(["s", "a{sv}"]);
});

test("the errors that callers were promised have their names", () => {
  const promised: Readonly<Record<string, FailureCode>> = {
    "org.freedesktop.DBus.Error.AccessDenied": "access-denied",
    "org.freedesktop.DBus.Error.InvalidArgs": "invalid-arguments",
    "org.freedesktop.DBus.Error.UnknownObject": "unknown-object",
    "org.freedesktop.DBus.Error.UnknownMethod": "unknown-method",
    "org.freedesktop.DBus.Error.LimitsExceeded": "limits-exceeded",
    "org.freedesktop.DBus.Error.NotSupported": "not-supported",
    "org.freedesktop.DBus.Error.PropertyReadOnly": "property-read-only",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired": "authorization-required",
    "org.copyd.Copyd1.Error.JobExists": "job-exists",
    "org.copyd.Copyd1.Error.NoSuchJob": "no-such-job",
    "org.copyd.Copyd1.Error.InvalidState": "invalid-state",
    "org.copyd.Copyd1.Error.BadPath": "bad-path",
    "org.copyd.Copyd1.Error.UnknownOption": "unknown-option",
    "org.copyd.Copyd1.Error.SameFile": "same-file",
    "org.copyd.Copyd1.Error.SandboxedCaller": "sandboxed-caller",
    "org.copyd.Copyd1.Error.NotAuthorized": "not-authorized",
    "org.copyd.Copyd1.Error.ShuttingDown": "shutting-down",
  };
  for (const [name, code] of Object.entries(promised)) expect(`${code} ${failures[code].dbusName}`).toBe(`${code} ${name}`);
});
