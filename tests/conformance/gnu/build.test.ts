// What builds and installations do with cp and mv comes to the same when both are copyd's, found first in PATH.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { havePrograms, run, runChecked } from "../../support/process.ts";
import { testUnless } from "../../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../../support/temporary.ts";

const root = join(import.meta.dir, "../../..");
const timeoutMs = 200_000;
let home: TemporaryDirectory;
let ours = "";

beforeAll(async () => {
  if (process.env.COPYD_BINARY === undefined) await runChecked(["make", "build"], { cwd: root, timeoutMs });
  home = await temporaryDirectory();
  ours = `${home.path}/bin`;
  mkdirSync(ours);
  for (const name of ["cp", "mv"]) symlinkSync(process.env.COPYD_BINARY ?? join(root, "dist/copyd"), `${ours}/${name}`);
}, 240_000);
afterAll(() => home[Symbol.asyncDispose]());

/** The script's words and the tree it leaves behind, in a directory of its own, by each side's cp and mv. */
async function outcomes(script: string): Promise<{ readonly ours: string[]; readonly gnu: string[] }> {
  return { ours: await outcomeOf(script, `${ours}:/usr/bin:/bin`, "ours"), gnu: await outcomeOf(script, "/usr/bin:/bin", "gnu") };
}

const listing = "find . -printf '%P %y %m %n %l\\n' | sort; find . -type f | sort | xargs -d '\\n' sha256sum";

async function outcomeOf(script: string, path: string, name: string): Promise<string[]> {
  const cwd = `${home.path}/${name}`;
  await runChecked(["rm", "-rf", cwd]);
  mkdirSync(cwd);
  const env = { PATH: path, LC_ALL: "C", HOME: cwd, SOURCE: root, SOURCE_DATE_EPOCH: "1000000000" };
  const result = await run(["sh", "-ec", `umask 022\n${script}`], { cwd, env, timeoutMs });
  const tree = await runChecked(["sh", "-c", listing], { cwd, env: { PATH: "/usr/bin:/bin", LC_ALL: "C" } });
  const lines = `status ${result.status}\n${result.stdout}${result.stderr}${tree.stdout}`.split("\n");
  return lines.filter((line) => !line.startsWith("make"));
}

test("it is ours that PATH finds", async () => {
  const { stdout } = await run(["sh", "-c", "cp --version; mv --version"], { env: { PATH: `${ours}:/usr/bin:/bin` } });
  expect(stdout.match(/copyd/g)?.length).toBe(2);
});

/** The idioms of config.status, libtool, automake and the kernel's makefiles. */
const makefile = `
cat >Makefile <<'EOF'
DESTDIR = root
HEADERS = a.h sub/b.h sub/c.h
all: config.h lib.so generated.c
config.h: config.in
	sed s/@X@/1/ config.in >$@.tmp
	if cmp -s $@.tmp $@; then rm -f $@.tmp; else mv -f $@.tmp $@; fi
lib.so: ; echo code >$@T && mv $@T $@.1.0 && ln -sf $@.1.0 $@.1 && ln -sf $@.1 $@
generated.c: ; cp template.c $@-t && chmod a-w $@-t && mv -f $@-t $@
install: all
	mkdir -p $(DESTDIR)/usr/include $(DESTDIR)/usr/lib $(DESTDIR)/usr/share/doc
	cp -pPR lib.so lib.so.1 lib.so.1.0 $(DESTDIR)/usr/lib
	cp --parents -p $(HEADERS) $(DESTDIR)/usr/include
	cp -rp doc/. $(DESTDIR)/usr/share/doc
	cp -f generated.c config.h $(DESTDIR)/usr/share
	cp -l $(DESTDIR)/usr/share/config.h $(DESTDIR)/usr/share/config2.h
	cp -uv doc/* $(DESTDIR)/usr/share/doc
	cp -as $(CURDIR)/doc $(DESTDIR)/links && rm -r $(DESTDIR)/links
	mv -b $(DESTDIR)/usr/share/doc/one $(DESTDIR)/usr/share/doc/two
	cp -bf doc/two $(DESTDIR)/usr/share/doc/two
	mv $(DESTDIR)/usr/share/doc $(DESTDIR)/usr/doc
EOF
mkdir sub doc; echo 'X=@X@' >config.in; echo code >template.c; for h in a.h sub/b.h sub/c.h doc/one doc/two; do echo $h >$h; done
touch -d 2001-01-01 a.h sub/*.h doc/*; chmod 755 doc/one
make -s; make -s; make -s install; touch config.in; make -s install DESTDIR=root2; cp -a root root3; diff -r root root3
`;

testUnless(
  havePrograms("make") ? null : "make is not installed",
  "makefiles",
  async () => {
    const { ours: found, gnu } = await outcomes(makefile);
    expect(found).toEqual(gnu);
    expect(gnu[0]).toBe("status 0");
  },
  timeoutMs,
);

const packaging = `
mkdir -p pkg/DEBIAN pkg/usr/share/x; printf 'Package: x\\nVersion: 1\\nArchitecture: all\\nMaintainer: m <m@example.org>\\nDescription: x\\n' >control
cp control pkg/DEBIAN/; cp -a "$SOURCE/docs" "$SOURCE/man" pkg/usr/share/x/; cp -r "$SOURCE/src" tree; mv tree pkg/usr/share/x/src
find pkg -exec touch -hd @1000000000 {} +
dpkg-deb -Znone --root-owner-group -b pkg new.deb >/dev/null; mv new.deb x.deb; mkdir out; dpkg-deb -x x.deb out; diff -r pkg/usr out/usr; rm -r pkg out
`;

testUnless(
  havePrograms("dpkg-deb") ? null : "dpkg-deb is not installed",
  "a Debian package of this project's own files",
  async () => {
    const { ours: found, gnu } = await outcomes(packaging);
    expect(found).toEqual(gnu);
    expect(gnu[0]).toBe("status 0");
  },
  timeoutMs,
);

test(
  "many at once, and one after the other: none fails, none leaves anything behind",
  async () => {
    const count = process.env.COPYD_TORTURE === undefined ? 30 : 200;
    const script = `mkdir s t; for i in $(seq ${count}); do echo $i >s/$i; done
    for i in $(seq ${count}); do cp s/$i t/$i & jobs="$jobs $!"; done; for j in $jobs; do wait $j; done
    for i in $(seq ${count}); do mv t/$i t/$i.moved & done; wait; for i in $(seq ${count / 10}); do cp -p t/$i.moved t/again$i; done`;
    const { ours: found, gnu } = await outcomes(script);
    expect(found).toEqual(gnu);
    expect(gnu[0]).toBe("status 0");
  },
  timeoutMs,
);
