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
 * Lines without newlines, the titles first. Where they would be wider than `width` (null: as wide as it takes), columns in which
 * nothing stands are left out, and the last one is cut at its start.
 */
export function tableLines(columns: readonly Column[], rows: readonly (readonly string[])[], width: number | null): string[] {
  const lines = linesOf(columns, rows, null);
  if (width === null || lines.every((line) => columnsOf(line) <= width)) return lines;
  const isKept = (index: number): boolean => index === columns.length - 1 || rows.some((row) => (row[index] ?? "") !== "");
  const kept = <Cell>(cells: readonly Cell[]): Cell[] => cells.filter((_, index) => isKept(index));
  return linesOf(kept(columns), rows.map(kept), width);
}

function linesOf(columns: readonly Column[], rows: readonly (readonly string[])[], width: number | null): string[] {
  const all = [columns.map(({ title }) => title), ...rows];
  const widths = columns.map((_, index) => Math.max(...all.map((row) => columnsOf(row[index] ?? ""))));
  return all.map((row, rowIndex) => {
    let line = "";
    for (const [index, column] of columns.entries()) {
      const isLast = index === columns.length - 1;
      const text = row[index] ?? "";
      if (isLast && width !== null) {
        const room = Math.max(1, width - columnsOf(line));
        return (line + (rowIndex === 0 ? text.slice(0, room) : cutStart(text, room, "…"))).trimEnd();
      }
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
