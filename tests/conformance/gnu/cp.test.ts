// `copyd cp` against the machine's GNU cp: the same tree, the same words, the same status, as root and as an ordinary user.

import { backups } from "./cp/backups.ts";
import { basic } from "./cp/basic.ts";
import { cpDifferences } from "./cp/differences.ts";
import { links } from "./cp/links.ts";
import { metadata } from "./cp/metadata.ts";
import { overwriting } from "./cp/overwriting.ts";
import { special } from "./cp/special.ts";
import { defineCases } from "./suite.ts";

defineCases("cp", [...basic, ...overwriting, ...backups, ...links, ...metadata, ...special], cpDifferences);
