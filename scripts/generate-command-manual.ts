// Writes man/copyd.1 from the command line's own tables and the failure table; with --check it only compares.

import { alsoNote, base64Note, jsonObjects } from "../src/cli/copy-help.ts";
import { failures } from "../src/errors.ts";
import { type Command, type CommandOption, commandLine } from "./command-line.ts";
import { generatedFile } from "./generated-file.ts";
import { roff, roffExample, roffHead, roffItem, roffLines, roffParagraph, roffSection } from "./roff.ts";

const commands = await commandLine();

const description = `copyd copies files and keeps everything that they have: mode, owner, times to the nanosecond, extended attributes,
access control lists, hard links and holes, if that is asked for as one asks cp. New files are filled
without a name, or in a directory that the copy itself has made, and replaced ones give way to a copy that is whole: a crash, a full
disk or Ctrl-C leaves the old file, the new one or none. The exception is what one asks of cp: an existing file that cp overwrites is
written in place, and cut off where the copy is; with --remove-destination or --backup it is replaced.
cp and mv let the service copy where it is there and do it by themselves where it is not; verify, doctor and config never need the
service, the other commands do.
Linked as cp or mv, copyd is that command.`;
const copyNote = "What is not asked for is as in cp: mode less the umask, no times, no owner; existing files are overwritten in place.";
const moveNote = "Between filesystems a source goes only when its copy is complete and on the device.";

await generatedFile("man/copyd.1", page());

function page(): string {
  const copying = commands.filter(({ name }) => name === "cp" || name === "mv");
  const others = commands.filter((command) => !copying.includes(command) && command.name !== "daemon");
  return [
    roffHead("COPYD", 1, "User Commands", "scripts/generate-command-manual.ts"),
    roffSection("NAME"),
    roffLines("copyd - copy and move files, and follow copies"),
    "\n",
    roffSection("SYNOPSIS"),
    commands.map(synopsis).join(".br\n"),
    roffSection("DESCRIPTION"),
    roffLines(description),
    "\n",
    ...copying.flatMap((command) => [
      `.SS "copyd ${command.name}"\n`,
      roffLines(`${command.about}; each option means what it means there. ${command.name === "mv" ? moveNote : copyNote}`),
      "\n",
      ...command.options.map(item),
    ]),
    ...others.flatMap((command) => [
      `.SS "copyd ${command.name}"\n`,
      roffLines(`${command.about}.`),
      "\n",
      ...command.operandNotes.map(([name, about]) => roffItem(`\\fI${roff(name)}\\fR`, `${about}.`)),
      ...command.options.filter(({ spellings }) => !spellings.includes("--help")).map(item),
    ]),
    roffParagraph("JOB is a job's token, or the start of one that no other job has. copyd daemon is the service: see copyd(8)."),
    roffSection("JSON"),
    roffLines('With --json, cp and mv write an object a line, each with its "type":'),
    "\n",
    ...jsonObjects.map(([type, fields]) => roffItem(roff(type), `${fields}.`)),
    roffParagraph(alsoNote),
    roffParagraph(`${base64Note} The other commands write what they list in the same way.`),
    roffSection("EXIT STATUS"),
    roffItem("0", "All was done."),
    roffItem("1", "Something was not; what, and why, was said. The rest was done."),
    roffItem("2", "The service refused the call."),
    roffItem(String(failures["bad-config"].exitStatus), "The settings are wrong (copyd config check, copyd daemon)."),
    roffItem("128 + n", "Signal n ended it: 130 for Ctrl-C. What was finished stays, and no new file is left half-made."),
    roffSection("ENVIRONMENT"),
    roffItem("DBUS_SYSTEM_BUS_ADDRESS, DBUS_SESSION_BUS_ADDRESS", "Where the buses are."),
    roffItem("NO_COLOR", "Set, and not empty: nothing is coloured."),
    roffItem("POSIXLY_CORRECT, SIMPLE_BACKUP_SUFFIX, VERSION_CONTROL", "As for GNU cp and mv."),
    roffSection("EXAMPLES"),
    roffLines("A tree with all that it has; a terminal shows how far it is:"),
    "\n",
    roffExample("copyd cp -a ~/photos /mnt/disk"),
    roffParagraph("Read back from the medium and compared:"),
    roffExample("copyd cp -a --verify=blake3 --durability=job ~/photos /mnt/disk"),
    roffParagraph("What the service is doing, and what became of a job:"),
    roffExample("copyd jobs\ncopyd watch k3x9\ncopyd errors k3x9"),
    roffSection("SEE ALSO"),
    ".BR copyd (8),\n.BR copyd.conf (5),\n.BR org.copyd.Copyd1 (5),\n.BR cp (1),\n.BR mv (1)\n",
  ].join("");
}

function synopsis({ name, usage }: Command): string {
  return `.B copyd ${roff(name)}\n${roffLines(usage)}\n`;
}

function item({ spellings, argument, placeholder, about }: CommandOption): string {
  const last = spellings.length - 1;
  const value = argument === "none" ? "" : argument === "optional" ? `[=\\fI${roff(placeholder)}\\fR]` : `=\\fI${roff(placeholder)}\\fR`;
  const term = spellings.map((spelling, index) => `\\fB${roff(spelling)}\\fR${index === last ? value : ""}`).join(", ");
  return roffItem(term, `${about.charAt(0).toUpperCase()}${about.slice(1)}${about.endsWith(".") ? "" : "."}`);
}
