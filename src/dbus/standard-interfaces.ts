// The interfaces of the D-Bus specification that every object of the service has, and ObjectManager.

import type { InterfaceDescription } from "./interface-description.ts";

export const propertiesInterface = "org.freedesktop.DBus.Properties";
export const introspectableInterface = "org.freedesktop.DBus.Introspectable";
export const peerInterface = "org.freedesktop.DBus.Peer";
export const objectManagerInterface = "org.freedesktop.DBus.ObjectManager";

export const propertiesDescription = {
  methods: {
    Get: {
      in: [
        ["interface_name", "s"],
        ["property_name", "s"],
      ],
      out: [["value", "v"]],
    },
    GetAll: { in: [["interface_name", "s"]], out: [["properties", "a{sv}"]] },
    Set: {
      in: [
        ["interface_name", "s"],
        ["property_name", "s"],
        ["value", "v"],
      ],
      out: [],
    },
  },
  signals: {
    PropertiesChanged: [
      ["interface_name", "s"],
      ["changed_properties", "a{sv}"],
      ["invalidated_properties", "as"],
    ],
  },
  properties: {},
} as const satisfies InterfaceDescription;

export const introspectableDescription = {
  methods: { Introspect: { in: [], out: [["xml_data", "s"]] } },
  signals: {},
  properties: {},
} as const satisfies InterfaceDescription;

export const peerDescription = {
  methods: { Ping: { in: [], out: [] }, GetMachineId: { in: [], out: [["machine_uuid", "s"]] } },
  signals: {},
  properties: {},
} as const satisfies InterfaceDescription;

export const objectManagerDescription = {
  methods: { GetManagedObjects: { in: [], out: [["objects", "a{oa{sa{sv}}}"]] } },
  signals: {
    InterfacesAdded: [
      ["object", "o"],
      ["interfaces", "a{sa{sv}}"],
    ],
    InterfacesRemoved: [
      ["object", "o"],
      ["interfaces", "as"],
    ],
  },
  properties: {},
} as const satisfies InterfaceDescription;
