// The lines of mountinfo, proc_pid_mountinfo(5), as records. Pure; texts are latin1, so that names stay bytes.

export interface Mount {
  readonly id: string;
  readonly parent: string;
  /** "major:minor" of the filesystem, which is the same wherever, and however often, it is mounted. */
  readonly device: string;
  /** The path within the filesystem of what is mounted, and where it is; "" is the root. */
  readonly root: string;
  readonly point: string;
  readonly type: string;
  /** What is mounted, in the words of its kind: a device, server:/path, or the type's own. */
  readonly source: string;
  /** The filesystem's own options, as "rw", "lowerdir=/a". */
  readonly options: readonly string[];
}

/** In the order of the text, which is the order of mounting; lines that make no sense are left out. */
export function parseMountInfo(text: string): Mount[] {
  return text.split("\n").flatMap(mountOf);
}

/** A path's names, "." and ".." taken for what they say. */
export function namesOf(path: string): string[] {
  const names: string[] = [];
  for (const name of path.split("/")) {
    if (name === "..") names.pop();
    else if (name !== "" && name !== ".") names.push(name);
  }
  return names;
}

function mountOf(line: string): Mount[] {
  const words = line.split(" ");
  const [id, parent, device, root, point] = words;
  if (id === undefined || parent === undefined || device === undefined || root === undefined || point === undefined) return [];
  // Optional fields stand between the options and a hyphen.
  const hyphen = words.indexOf("-", 6);
  const [type = "", source = "", options = ""] = hyphen < 0 ? [] : words.slice(hyphen + 1);
  const place = { root: withoutEndSlash(unescaped(root)), point: withoutEndSlash(unescaped(point)) };
  return [{ id, parent, device, ...place, type, source: unescaped(source), options: options.split(",").map(unescaped) }];
}

function withoutEndSlash(path: string): string {
  return path.endsWith("/") ? path.slice(0, -1) : path;
}

/** Blank, tab, newline and backslash are written as octal numbers. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
