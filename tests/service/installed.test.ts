// As installed, on a real systemd with a real system bus: activation, the policy, the unit's sandbox, and an uninstall that leaves nothing.

import { beforeAll, expect } from "bun:test";
import { join } from "node:path";
import { version } from "../../src/version.ts";
import { runInContainer, type Step, whyNoContainer } from "../support/container.ts";
import { havePrograms, runChecked } from "../support/process.ts";
import { firstReason, testUnless } from "../support/skip.ts";

const root = join(import.meta.dir, "../..");
const reason = firstReason(
  whyNoContainer(),
  havePrograms("make", "rsync", "setfattr", "setcap") ? null : "make, rsync, attr or libcap2-bin is missing",
);
let steps: ReadonlyMap<string, Step> = new Map();
let filesInstalled: string[] = [];
let filesLeft: string[] = [];

const script = `
useradd --create-home anna; useradd --create-home ben; groupadd shared; usermod -aG shared anna
mkdir /data /home/anna/out /root/in; chown anna: /home/anna/out
echo shared > /data/shared; chown root:shared /data/shared; chmod 640 /data/shared
echo secret > /data/secret; chmod 600 /data/secret
echo x > /root/in/file; chown 5:6 /root/in/file; chmod 6755 /root/in/file
setcap cap_net_raw+ep /root/in/file; setfattr -n user.x -v y /root/in/file
mknod /root/in/device c 1 3; mkfifo /root/in/fifo; ln /root/in/file /root/in/link; ln -s file /root/in/symlink
anna=$(id -u anna)
job=/org/copyd/Copyd1/jobs/u$anna/one
as() { user=$1; shift; setpriv --reuid=$user --regid=$user --init-groups env HOME=/home/$user "$@"; }

step before systemctl is-active copyd.service
step version busctl --timeout=30 get-property org.copyd.Copyd1 /org/copyd/Copyd1 org.copyd.Copyd1.Manager Version
step after systemctl is-active copyd.service
step copy as anna busctl --timeout=30 call org.copyd.Copyd1 /org/copyd/Copyd1 org.copyd.Copyd1.Manager CopyUris 'assa{sv}' \\
  2 file:///data/shared file:///data/secret /home/anna/out 1 token s one
step wait as anna busctl --timeout=60 call org.copyd.Copyd1 $job org.copyd.Copyd1.Job Wait 'a{sv}' 0
step errors as anna gdbus call --system --dest org.copyd.Copyd1 --object-path $job --method org.copyd.Copyd1.Job.GetErrors 0 100
step out stat -c '%n %U' /home/anna/out/shared /home/anna/out/secret
step foreign as ben busctl --timeout=30 get-property org.copyd.Copyd1 $job org.copyd.Copyd1.Job State
step own as ben busctl --timeout=30 call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus RequestName su org.copyd.Copyd1 0
step root-copy copyd cp -a --json /root/in /root/copy
step root-same rsync -aHAXnic --delete /root/in/ /root/copy/
step user-copy as anna copyd cp -a /usr/share/doc/dbus /home/anna/doc
step user-same diff -r --no-dereference /usr/share/doc/dbus /home/anna/doc
step doctor as anna copyd doctor
step listed gdbus call --system --dest org.copyd.Copyd1 --object-path /org/copyd/Copyd1 --method org.copyd.Copyd1.Manager.ListJobs '{}'
step capabilities sh -c 'grep Cap /proc/$(systemctl show -P MainPID copyd.service)/status'
step view sh -c 'readlink /proc/1/ns/mnt /proc/$(systemctl show -P MainPID copyd.service)/ns/mnt | uniq | wc -l'
step security systemd-analyze security --no-pager --threshold=50 copyd.service
step journal journalctl --no-pager -o cat -p notice -u copyd.service
step stop systemctl stop copyd.service
step result systemctl show -P Result copyd.service
step again busctl --timeout=30 get-property org.copyd.Copyd1 /org/copyd/Copyd1 org.copyd.Copyd1.Manager ActiveJobs
step session as ben dbus-run-session -- sh -c 'copyd daemon --help >/dev/null; busctl --user --timeout=30 get-property org.copyd.Copyd1 /org/copyd/Copyd1 org.copyd.Copyd1.Manager Version'
`;

beforeAll(async () => {
  if (reason !== null) return;
  await runChecked([process.execPath, "scripts/build.ts"], { cwd: root, timeoutMs: 120_000 });
  const make = (target: string, to: string): Promise<unknown> =>
    runChecked(["make", "-o", "dist/copyd", target, `DESTDIR=${to}`, "PREFIX=/usr"], { cwd: root });
  steps = await runInContainer({
    prepare: async (to) => void (await make("install", to)),
    script,
    inspect: async (to) => {
      filesInstalled = await ownFiles(to);
      await make("uninstall", to);
      filesLeft = await ownFiles(to);
    },
  });
}, 200_000);

async function ownFiles(to: string): Promise<string[]> {
  const names = ["-name", "copyd", "-o", "-name", "copyd.service", "-o", "-name", "org.copyd.*"];
  const { stdout } = await runChecked(["find", `${to}/usr/bin`, `${to}/usr/lib/systemd`, `${to}/usr/share`, `${to}/etc`, ...names]);
  return stdout.split("\n").filter((line) => line !== "");
}

function step(name: string): Step {
  const found = steps.get(name);
  if (found === undefined) throw new Error(`the machine did not come to ${name}`);
  return found;
}

testUnless(reason, "the first call starts the service, and nothing ran before it", () => {
  expect(step("before").output.trim()).toBe("inactive");
  expect(step("version")).toEqual({ status: 0, output: `s "${version}"\n` });
  expect(step("after").output.trim()).toBe("active");
});

testUnless(reason, "it copies as its caller: with the caller's groups, and nothing that the caller may not read", () => {
  expect(step("copy").output).toMatch(/^o "\/org\/copyd\/Copyd1\/jobs\/u\d+\/one"\n$/);
  expect(step("wait").output).toStartWith('sa{sv} "failed"');
  expect(step("errors").output).toContain("source-unreadable");
  expect(step("out").output).toContain("/home/anna/out/shared anna");
  expect(step("out").output).toContain("'/home/anna/out/secret': No such file");
});

testUnless(reason, "a foreign job is not there, and nobody but root can own the name", () => {
  expect(step("foreign").status).not.toBe(0);
  expect(step("foreign").output).toMatch(/no object|[Uu]nknown object/);
  expect(step("own").status).not.toBe(0);
});

testUnless(reason, "root's copy keeps owners, setuid bits, capabilities, attributes and devices inside the unit's sandbox", () => {
  expect(step("root-copy")).toMatchObject({ status: 0 });
  expect(step("root-same")).toEqual({ status: 0, output: "" });
});

testUnless(reason, "copyd cp goes through the service, and the copy is true", () => {
  expect(step("user-copy")).toMatchObject({ status: 0 });
  expect(step("user-same")).toEqual({ status: 0, output: "" });
  expect(step("listed").output).toContain("/root/copy");
});

testUnless(reason, "the doctor finds liburing, Landlock and the service", () => {
  expect(step("doctor").output).toMatch(/Landlock +yes/);
  expect(step("doctor").output).toMatch(/system service +yes/);
});

testUnless(reason, "the service holds the capabilities that it needs and no others, and sees the mounts that its callers see", () => {
  // CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP MKNOD SETFCAP
  expect(step("capabilities").output).toContain("CapBnd:\t00000000880001ff");
  expect(step("view").output.trim()).toBe("1");
  expect(step("security").status).toBe(0);
});

testUnless(reason, "it stops in order, starts again with the next call, and the journal has its levels", () => {
  expect(step("stop").status).toBe(0);
  expect(step("result").output.trim()).toBe("success");
  expect(step("again")).toEqual({ status: 0, output: "u 0\n" });
  expect(step("journal").output).toContain("the service is ready");
  expect(step("journal").output).not.toContain("<5>");
});

testUnless(reason, "on a session bus the first call starts the user's own service", () => {
  expect(step("session").output).toContain(`\ns "${version}"\n`);
});

testUnless(reason, "uninstall leaves nothing", () => {
  expect(filesInstalled.length).toBeGreaterThanOrEqual(8);
  expect(filesLeft).toEqual([]);
});
