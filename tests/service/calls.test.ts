// The service on a real bus: every call is answered, with what was asked for or with a named error.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseChildNodes, parseInterfaces } from "../../scripts/interface-xml.ts";
import { contract, jobInterface, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { asVariantDict, type Variant } from "../../src/dbus/values.ts";
import { whyNoBus, whyNoGdbus } from "../support/bus.ts";
import { callService, copy, errorOf, pathOf, variant } from "../support/bus-client.ts";
import { run } from "../support/process.ts";
import { type ServiceFixture, startServiceFixture } from "../support/service.ts";
import { describeUnless, testUnless } from "../support/skip.ts";

const properties = "org.freedesktop.DBus.Properties";
const introspectable = "org.freedesktop.DBus.Introspectable";
const dbusError = "org.freedesktop.DBus.Error";
const ownError = "org.copyd.Copyd1.Error";

describeUnless(whyNoBus(), "calls", () => {
  let fixture: ServiceFixture;
  beforeAll(async () => {
    fixture = await startServiceFixture();
  });
  afterAll(async () => {
    expect(fixture.internal).toEqual([]);
    await fixture[Symbol.asyncDispose]();
  });

  describe("introspection", () => {
    test("is what the XML says", async () => {
      const [xml] = await callService(fixture.client, rootPath, introspectable, "Introspect");
      const interfaces = parseInterfaces(String(xml));
      expect(interfaces[managerInterface]).toEqual(contract[managerInterface] as never);
      const job = await copy(fixture.client, ["/a"]);
      const [jobXml] = await callService(fixture.client, job, introspectable, "Introspect");
      expect(parseInterfaces(String(jobXml))[jobInterface]).toEqual(contract[jobInterface] as never);
    });

    test("leads from the root to the caller's jobs", async () => {
      const job = await copy(fixture.client, ["/a"]);
      let path = "";
      for (const element of job.split("/").slice(1)) {
        const [xml] = await callService(fixture.client, path === "" ? "/" : path, introspectable, "Introspect");
        expect(parseChildNodes(String(xml))).toContain(element);
        path += `/${element}`;
      }
    });

    testUnless(whyNoGdbus(), "busctl and gdbus understand it", async () => {
      const tree = await run(["busctl", `--address=${fixture.bus.address}`, "tree", "org.copyd.Copyd1"]);
      expect(tree.stdout).toContain("/org/copyd/Copyd1/jobs/u0");
      const shown = await run(["busctl", `--address=${fixture.bus.address}`, "introspect", "org.copyd.Copyd1", rootPath]);
      expect(shown.stdout).toMatch(/\.CopyUris\s+method\s+assa\{sv\}\s+o/);
      expect(shown.stdout).toMatch(/\.Version\s+property\s+s\s+"1\.2\.3"\s+const/);
      const gdbus = await run([
        "gdbus",
        "introspect",
        "--address",
        fixture.bus.address,
        "--dest",
        "org.copyd.Copyd1",
        "--object-path",
        rootPath,
      ]);
      expect(gdbus.stdout).toContain("interface org.copyd.Copyd1.Manager");
    });
  });

  describe("starting jobs", () => {
    test("a copy is queued as asked, for the caller the bus names", async () => {
      const path = await copy(fixture.client, ["/a\xff\n", "/b"], { token: variant.s("asked"), "on-conflict": variant.s("rename") });
      expect(path).toBe("/org/copyd/Copyd1/jobs/u0/asked");
      const { request, owner } = fixture.jobAt(path);
      expect(owner).toMatchObject({ uid: 0, gid: 0 });
      expect(request).toMatchObject({ operation: "copy", sources: ["/a\xff\n", "/b"], destination: "/destination" });
      expect(request.options.onConflict).toBe("rename");
      expect(Object.isFrozen(request) && Object.isFrozen(request.sources) && Object.isFrozen(request.options.gnu)).toBe(true);
    });

    test("URIs and moves work as paths and copies do", async () => {
      const body = [["file:///a%FFb", "/grüße"], "file://localhost/d", new Map()];
      const [path] = await callService(fixture.client, rootPath, managerInterface, "MoveUris", "assa{sv}", body);
      const { request } = fixture.jobAt(String(path));
      expect(request).toMatchObject({ operation: "move", sources: ["/a\xffb", "/gr\xc3\xbc\xc3\x9fe"], destination: "/d" });
    });

    test("the same token and arguments are the same job, other arguments an error", async () => {
      const first = await copy(fixture.client, ["/a"], { token: variant.s("twice") });
      expect(await copy(fixture.client, ["/a"], { token: variant.s("twice") })).toBe(first);
      expect((await errorOf(copy(fixture.client, ["/b"], { token: variant.s("twice") }))).dbusName).toBe(`${ownError}.JobExists`);
    });

    const refusals: [string, string, unknown[], string][] = [
      ["a relative path", "Copy", [[Buffer.from("a")], pathOf("/d"), new Map()], `${ownError}.BadPath`],
      ["an embedded NUL", "Copy", [[Buffer.from("/a\0b")], pathOf("/d"), new Map()], `${ownError}.BadPath`],
      ["a relative destination", "Copy", [[pathOf("/a")], Buffer.from("d"), new Map()], `${ownError}.BadPath`],
      ["no source", "Copy", [[], pathOf("/d"), new Map()], `${dbusError}.InvalidArgs`],
      ["too many sources", "Copy", [Array(401).fill(pathOf("/a")), pathOf("/d"), new Map()], `${dbusError}.LimitsExceeded`],
      ["too many bytes", "Copy", [Array(300).fill(pathOf(`/${"a".repeat(800)}`)), pathOf("/d"), new Map()], `${dbusError}.LimitsExceeded`],
      ["an unknown option", "Copy", [[pathOf("/a")], pathOf("/d"), new Map([["x", variant.b(true)]])], `${ownError}.UnknownOption`],
      ["a wrong type", "Copy", [[pathOf("/a")], pathOf("/d"), new Map([["umask", variant.s("22")]])], `${dbusError}.InvalidArgs`],
      ["a preview that cannot be had", "Preview", [[pathOf("/a")], pathOf("/d"), new Map()], `${dbusError}.NotSupported`],
    ];
    for (const [what, member, body, dbusName] of refusals) {
      test(`${what} is refused with ${dbusName.split(".").at(-1)}`, async () => {
        const error = await errorOf(callService(fixture.client, rootPath, managerInterface, member, "aayaya{sv}", body));
        expect(error.dbusName).toBe(dbusName);
        expect(error.message).not.toMatch(/\.ts|\n/);
      });
    }
  });

  describe("every call is answered", () => {
    test("what is not there is named as what it is", async () => {
      const cases: [string, string, string, string, unknown[], string][] = [
        ["/nowhere", managerInterface, "Copy", "", [], "UnknownObject"],
        [`${rootPath}/jobs/u0/none`, jobInterface, "Cancel", "a{sv}", [new Map()], "UnknownObject"],
        [rootPath, "org.freedesktop.DBus.Properties", "Nothing", "", [], "UnknownMethod"],
        [rootPath, managerInterface, "toString", "", [], "UnknownMethod"],
        [rootPath, jobInterface, "Cancel", "a{sv}", [new Map()], "UnknownInterface"],
        [rootPath, managerInterface, "Copy", "s", ["x"], "InvalidArgs"],
        [rootPath, managerInterface, "Unsubscribe", "s", ["x"], "InvalidArgs"],
        [rootPath, properties, "Get", "ss", [managerInterface, "constructor"], "UnknownProperty"],
        [rootPath, properties, "Get", "ss", ["no.such", "Version"], "UnknownInterface"],
        [rootPath, properties, "Set", "ssv", [managerInterface, "Version", variant.s("x")], "PropertyReadOnly"],
        [rootPath, properties, "Set", "ssv", [managerInterface, "Versio", variant.s("x")], "UnknownProperty"],
      ];
      for (const [path, interfaceName, member, signature, body, name] of cases) {
        const { dbusName } = await errorOf(callService(fixture.client, path, interfaceName, member, signature, body));
        expect(`${member}: ${dbusName}`).toBe(`${member}: ${dbusError}.${name}`);
      }
    });

    test("a peer can be pinged anywhere and knows its machine", async () => {
      expect(await callService(fixture.client, "/any/where", "org.freedesktop.DBus.Peer", "Ping")).toEqual([]);
      const [id] = await callService(fixture.client, rootPath, "org.freedesktop.DBus.Peer", "GetMachineId");
      expect(String(id)).toMatch(/^[0-9a-f]{32}$/);
    });

    test("properties of the Manager are all there", async () => {
      const [all] = await callService(fixture.client, rootPath, properties, "GetAll", "s", [managerInterface]);
      const dict = all as Map<string, Variant>;
      expect([...dict.keys()]).toEqual(Object.keys(contract[managerInterface].properties));
      expect(dict.get("Features")?.value).toEqual(expect.arrayContaining(["option:on-conflict", "option:token", "method:copy-as-admin"]));
      expect(dict.get("Features")?.value).toContain("preview");
      expect(dictOf(dict.get("Limits")).get("max-sources")?.value).toBe(100);
    });
  });
});

function dictOf(variant: Variant | undefined): Map<string, Variant> {
  return new Map(asVariantDict(variant?.value));
}
