// Two texts of mountinfo compared: what differs is found, what is the same files in another guise is not taken for a difference.

import { expect, test } from "bun:test";
import { MountComparison } from "../../src/dbus/mount-views.ts";

const line = (id: number, parent: number, device: string, root: string, point: string): string =>
  `${id} ${parent} ${device} ${root} ${point} rw,relatime shared:1 - ext4 /dev/x rw\n`;
const host = line(27, 1, "8:1", "/", "/") + line(30, 27, "8:2", "/", "/home") + line(31, 27, "0:40", "/", "/tmp");
const differs = (theirs: string, path: string, ours = host): boolean => new MountComparison(ours, theirs).firstDifference([path]) !== null;

test("a namespace of its own with the same mounts sees the same files", () => {
  const copy = line(127, 126, "8:1", "/", "/") + line(130, 127, "8:2", "/", "/home") + line(131, 127, "0:40", "/", "/tmp");
  for (const path of ["/", "/home/u/x", "/tmp/x", "/etc"]) expect(differs(copy, path)).toBe(false);
});

test("a private /tmp differs in /tmp and in what holds it, and nowhere else", () => {
  const privateTmp = line(127, 126, "8:1", "/", "/") + line(130, 127, "8:2", "/", "/home") + line(131, 127, "8:1", "/var/x", "/tmp");
  expect(differs(privateTmp, "/tmp")).toBe(true);
  expect(differs(privateTmp, "/tmp/a/b")).toBe(true);
  expect(differs(privateTmp, "/home/../tmp/a")).toBe(true);
  expect(differs(privateTmp, "/")).toBe(true);
  expect(differs(privateTmp, "/tmpx")).toBe(false);
  expect(differs(privateTmp, "/home/u")).toBe(false);
  expect(new MountComparison(host, privateTmp).firstDifference(["/home/a", "/tmp/b", "/tmp/c"])).toBe("/tmp/b");
});

test("a directory bound onto itself, as ReadOnlyPaths= does, is the same directory", () => {
  const bound = host.replaceAll(" 27 ", " 127 ") + line(140, 127, "8:1", "/usr", "/usr") + line(141, 140, "8:1", "/usr/lib", "/usr/lib");
  expect(differs(bound.replace("27 1 ", "127 1 "), "/usr/lib/x")).toBe(false);
});

test("another root directory differs in every path", () => {
  expect(differs(line(127, 126, "0:99", "/", "/") + line(130, 127, "8:2", "/", "/home"), "/home/u")).toBe(true);
  expect(differs(line(127, 126, "8:1", "/srv/root", "/") + line(130, 127, "8:2", "/", "/home"), "/home/u")).toBe(true);
});

test("a chroot into an ordinary directory, which lists no root, differs in every path", () => {
  expect(differs(line(30, 27, "8:2", "/", "/home"), "/home/u")).toBe(true);
  expect(differs("", "/home/u")).toBe(true);
});

test("a mount that is hidden by another does not count", () => {
  expect(differs(`${host}${line(50, 27, "8:9", "/", "/home/u/disk")}`, "/home/u/disk")).toBe(false);
  const hidden = `${host}${line(50, 30, "8:9", "/", "/home/u/disk")}`;
  expect(differs(hidden, "/home/u/disk")).toBe(true);
  // /home was mounted anew over what held the disk.
  const covered = `${hidden}${line(51, 30, "8:3", "/", "/home")}`;
  const plain = `${host}${line(51, 30, "8:3", "/", "/home")}`;
  expect(differs(covered, "/home/u/disk", plain)).toBe(false);
  expect(differs(covered, "/home/u/disk")).toBe(true);
});

test("names with blanks and other bytes are read as they are", () => {
  const odd = `${host}${line(50, 27, "8:9", "/a\\040b", "/media/my\\040disk\\134\xff")}`;
  expect(differs(odd, "/media/my disk\\\xff/x")).toBe(true);
  expect(differs(odd, "/media/my")).toBe(false);
});

test("twenty thousand mounts and ten thousand paths take no long time", () => {
  const many = host + Array.from({ length: 20_000 }, (_, index) => line(1000 + index, 27, "8:9", "/", `/mnt/${index}`)).join("");
  const paths = Array.from({ length: 10_000 }, (_, index) => `/home/${"d/".repeat(100)}${index}`);
  const started = performance.now();
  expect(new MountComparison(host, many).firstDifference(paths)).toBe(null);
  expect(performance.now() - started).toBeLessThan(5000);
});
