// Rows in aligned columns, for people.

import { columnsOf, cutStart } from "./terminal-text.ts";

export interface Column {
  readonly title: string;
  readonly align: "left" | "right";
}

const separator = "  ";

/** Columns of these titles, all aligned alike. */
export function aligned(align: Column["align"], ...titles: readonly string[]): readonly Column[] {
  return titles.map((title) => ({ title, align }));
}

/** What a table may take: the terminal's columns, or null where standard output is none. */
export function tableWidth(): number | null {
  return process.stdout.isTTY === true ? (process.stdout.columns ?? 80) : null;
}

/**
 * Lines without newlines, the titles first. The last column is cut at its start where the line would be wider than `columns`
 * (null: as wide as it takes).
 */
export function tableLines(columns: readonly Column[], rows: readonly (readonly string[])[], width: number | null): string[] {
  const all = [columns.map(({ title }) => title), ...rows];
  const widths = columns.map((_, index) => Math.max(...all.map((row) => columnsOf(row[index] ?? ""))));
  return all.map((row) => {
    let line = "";
    for (const [index, column] of columns.entries()) {
      const isLast = index === columns.length - 1;
      const text = row[index] ?? "";
      if (isLast && width !== null) return (line + cutStart(text, Math.max(1, width - columnsOf(line)), "…")).trimEnd();
      const padding = " ".repeat((widths[index] ?? 0) - columnsOf(text));
      line += column.align === "right" ? padding + text : text + padding;
      if (!isLast) line += separator;
    }
    return line.trimEnd();
  });
}

/** "Name:  value" lines, the values aligned. */
export function factLines(facts: readonly (readonly [name: string, value: string])[]): string[] {
  const width = Math.max(0, ...facts.map(([name]) => columnsOf(name)));
  return facts.map(([name, value]) => `${`${name}:`.padEnd(width + 1)}  ${value}`);
}
