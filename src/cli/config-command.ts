// `copyd config check|show`: whether the service's settings are right, and which are in force. It needs no service.

import type { ArgsDef } from "citty";
import { examineConfig, type SettingInForce } from "../config.ts";
import { sectionText } from "../config-settings.ts";
import { CopyError, failures } from "../errors.ts";
import { writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeText } from "./output.ts";
import { escapeControls } from "./terminal-text.ts";

const args = {
  action: { type: "positional", required: true, valueHint: "check|show", description: "Look for mistakes, or print what is in force" },
  config: { type: "string", valueHint: "FILE", description: "This file (and FILE.d/*.toml) instead of /etc/copyd/copyd.toml" },
  session: { type: "boolean", description: "The settings of the service on the session bus" },
  json: { type: "boolean", description: "One JSON object a line on standard output" },
} as const satisfies ArgsDef;

export const configCommand = named("config", "Check the service's settings, or show those in force", args, async (given) => {
  if (given.action !== "check" && given.action !== "show") {
    throw new CopyError("usage", `'${given.action}' is not known: copyd config check, or copyd config show`);
  }
  const argv = [...(given.session === true ? ["--session"] : []), ...(given.config === undefined ? [] : [`--config=${given.config}`])];
  // Not the whole environment: the service does not have the caller's.
  const { HOME, XDG_CONFIG_HOME } = process.env;
  const { files, problems, settings } = examineConfig(argv, { HOME, XDG_CONFIG_HOME });
  if (problems.length > 0) {
    for (const problem of problems) {
      if (given.json === true) writeJson({ type: "problem", message: problem });
      else writeText("stderr", `${escapeControls(problem)}\n`);
    }
    return failures["bad-config"].exitStatus;
  }
  if (given.action === "show") show(settings, given.json === true);
  else if (given.json === true) writeJson({ type: "checked", files: [...files] });
  else
    writeText(
      "stdout",
      files.length === 0 ? "There is no file: the standard values hold.\n" : files.map((file) => `${file}: no mistakes\n`).join(""),
    );
  return 0;
});

/** As TOML that could be a file, each value with where it comes from. */
function show(settings: readonly SettingInForce[], json: boolean): void {
  let section = "";
  for (const setting of settings) {
    const { key, value, origin } = setting;
    if (json) {
      writeJson({ type: "setting", section: setting.section, key, value: value as string | number, origin: origin ?? "standard" });
      continue;
    }
    if (setting.section !== section) writeText("stdout", `${section === "" ? "" : "\n"}[${sectionText(setting.section)}]\n`);
    section = setting.section;
    writeText("stdout", `${`${key} = ${JSON.stringify(value)}`.padEnd(40)} # ${escapeControls(origin ?? "standard")}\n`);
  }
}
