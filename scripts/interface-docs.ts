// The words of the introspection XML: the comment before each interface and member, in the form of GTK-Doc.

export type Block =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "terms"; readonly terms: readonly (readonly [term: string, text: string])[] };

export interface MemberDocs {
  readonly kind: "interface" | "method" | "signal" | "property";
  readonly name: string;
  /** The interface it belongs to; its own name for an interface. */
  readonly interface: string;
  /** "@name: text" lines. */
  readonly parameters: ReadonlyMap<string, string>;
  readonly blocks: readonly Block[];
}

/** The comment at the head of the file, then every interface and member in the order of the XML. Throws where one has no comment. */
export function parseInterfaceDocs(xml: string): { readonly head: readonly Block[]; readonly members: readonly MemberDocs[] } {
  const members: MemberDocs[] = [];
  let current = "";
  for (const match of xml.matchAll(/(?:<!--((?:(?!-->)[\s\S])*)-->\s*)?<(interface|method|signal|property) name="([^"]+)"/g)) {
    const [, comment, kind = "", name = ""] = match;
    if (kind === "interface") current = name;
    if (comment === undefined) throw new Error(`${current}: ${name} has no comment`);
    members.push({ kind: kind as MemberDocs["kind"], name, interface: current, ...parseComment(comment, name) });
  }
  const head = /<!--((?:(?!-->)[\s\S])*)-->\s*<node/.exec(xml)?.[1] ?? "";
  return { head: blocksOf(dedent(head)), members };
}

function parseComment(comment: string, name: string): Pick<MemberDocs, "parameters" | "blocks"> {
  const lines = dedent(comment);
  const [first = "", ...rest] = lines;
  if (!first.startsWith(`${name}:`)) throw new Error(`the comment of ${name} begins with "${first}"`);
  const said = first.slice(name.length + 1).trim();
  const parameters = new Map<string, string>();
  let parameter = "";
  while (rest[0] !== undefined && (rest[0].startsWith("@") || (parameter !== "" && rest[0].startsWith(" ")))) {
    const line = rest.shift() ?? "";
    const found = /^@([\w-]+): (.*)$/.exec(line);
    parameter = found?.[1] ?? parameter;
    parameters.set(parameter, found === null ? `${parameters.get(parameter) ?? ""} ${line.trim()}` : (found[2] ?? ""));
  }
  return { parameters, blocks: blocksOf([said, ...rest]) };
}

/** Paragraphs; lines that stand further in are terms, each with its type, and what stands still further in goes on with the text. */
function blocksOf(lines: readonly string[]): Block[] {
  const blocks: Block[] = [];
  let text: string[] = [];
  let terms: [string, string][] = [];
  const flush = (): void => {
    if (text.length > 0) blocks.push({ kind: "text", text: text.join("\n") });
    if (terms.length > 0) blocks.push({ kind: "terms", terms });
    text = [];
    terms = [];
  };
  for (const line of lines) {
    const term =
      /^ {2}(\S+ \S+) {2,}(\S.*)$/.exec(line) ??
      /^ {2}(\S+ aa?[ysv]+) (\S.*)$/.exec(line) ??
      /^ {2}(\S+ [a-z]+) {2}(\S.*)$/.exec(line) ??
      /^ {2}(\S+ ay)$/.exec(line);
    const last = terms.at(-1);
    if (line.trim() === "") flush();
    else if (term !== null) {
      if (text.length > 0) flush();
      terms.push([term[1] ?? "", term[2] ?? ""]);
    } else if (/^ {6,}/.test(line) && last !== undefined) last[1] += ` ${line.trim()}`;
    else text.push(line.trim());
  }
  flush();
  return blocks;
}

function dedent(comment: string): string[] {
  const lines = comment
    .replace(/^\s*\n/, "")
    .trimEnd()
    .split("\n");
  const margin = Math.min(...lines.filter((line) => line.trim() !== "").map((line) => line.length - line.trimStart().length));
  return lines.map((line) => line.slice(margin));
}
