// The command line of the benchmarks.

import { join } from "node:path";
import { parseArgs } from "node:util";
import { havePrograms } from "../tests/support/process.ts";
import { type BenchTools, type Cell, cells, parseRival, quickCells } from "./cells.ts";

export interface BenchOptions extends BenchTools {
  readonly cells: readonly Cell[];
  readonly runs: number;
  /** Seconds after which no run begins any more; null: all the time that it takes. */
  readonly deadlineSeconds: number | null;
  /** Part of the result's file name. */
  readonly label: string;
  readonly copyd: string;
  /** A directory on the real disk for the cold cells. */
  readonly disk: string;
  readonly results: string;
  /** Only hold the newest result against the floors. */
  readonly check: boolean;
  readonly list: boolean;
  readonly help: boolean;
}

export const usage = `Usage: bun bench/run.ts [OPTION]...

  --quick            a few cells against cp only, within three minutes
  --only CELLS       cells as ext4/small,*/flat,tmpfs/* (--list names them)
  --runs N           runs of each tool in each cell (7; quick: as many of 5 as there is time for)
  --service          copyd through the service, too
  --rival 'N=CMD'    another rival: its name, and its command with {src} and {dst}, as 'cpz=cpz -r {src} {dst}'; {copyd} is
                     copyd's binary, as in 'copyd -r={copyd} cp -r --local {src} {dst}'; may be repeated
  --no-rivals        only cp, copyd and what --rival names
  --native           the same calls in C as well (bench/native.c), where it can copy the cell; so it is without --quick and --no-rivals
  --deadline S       begin no run after so many seconds
  --copyd FILE       the binary under test (dist/copyd)
  --disk DIR         a directory on a real disk for the cold cells (/var/tmp)
  --results DIR      where the result files go (bench/results)
  --check            measure nothing: hold the newest result against the floors
  --list             name the cells
`;

/** Throws with a sentence for what cannot be understood. */
export function parseOptions(argv: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      quick: { type: "boolean", default: false },
      only: { type: "string", multiple: true },
      runs: { type: "string" },
      service: { type: "boolean", default: false },
      rival: { type: "string", multiple: true },
      "no-rivals": { type: "boolean", default: false },
      native: { type: "boolean", default: false },
      deadline: { type: "string" },
      copyd: { type: "string", default: join(import.meta.dir, "../dist/copyd") },
      disk: { type: "string", default: "/var/tmp" },
      results: { type: "string", default: join(import.meta.dir, "results") },
      check: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const { quick } = values;
  const patterns = (values.only ?? []).flatMap((list) => list.split(",")).filter((pattern) => pattern !== "");
  return {
    cells: patterns.length > 0 ? selectCells(patterns) : quick ? selectCells(quickCells) : cells,
    runs: wholeNumber("--runs", values.runs) ?? (quick ? 5 : 7),
    // The last run under way and its comparison end within the three minutes.
    deadlineSeconds: wholeNumber("--deadline", values.deadline) ?? (quick ? 150 : null),
    service: values.service,
    native: values.native || (!quick && !values["no-rivals"] && havePrograms("gcc")),
    named: (values.rival ?? []).map(parseRival),
    installed: !quick && !values["no-rivals"],
    label: quick ? "quick" : patterns.length > 0 ? "some" : "full",
    copyd: values.copyd,
    disk: values.disk,
    results: values.results,
    check: values.check,
    list: values.list,
    help: values.help,
  };
}

/** Cells by name; * stands for anything. In the matrix's order for patterns with *, else as given. */
export function selectCells(patterns: readonly string[]): Cell[] {
  const selected: Cell[] = [];
  for (const pattern of patterns) {
    const form = new RegExp(`^${pattern.replace(/[^*\w]/g, "\\$&").replaceAll("*", ".*")}$`);
    const found = cells.filter(({ id }) => form.test(id));
    if (found.length === 0) throw new Error(`there is no cell ${pattern}: --list names them`);
    selected.push(...found.filter((cell) => !selected.includes(cell)));
  }
  return selected;
}

function wholeNumber(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${option} takes a whole number from 1: ${text}`);
  return value;
}
