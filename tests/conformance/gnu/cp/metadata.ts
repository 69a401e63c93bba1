// What cp keeps of modes, owners, times, attributes and ACLs, and what it says where it cannot.

import { type Case, row } from "../case.ts";

const modes =
  "mkdir d; for m in 644 600 755 444 4755 2755 1644 000 777; do echo $m >d/$m; chmod $m d/$m; done; mkdir -m 1777 d/t; mkdir -m 700 d/p; mkdir -m 2755 d/g; mkdir -m 311 d/w";
const unlock = "s=$?; chmod 755 d/w; exit $s";
const dated =
  "mkdir -p d/s; echo x >d/f; ln -s f d/l; echo y >d/s/g; touch -d '2003-04-05 06:07:08.123456789' d/f d/s/g; touch -hd '2004-05-06 07:08:09.987654321' d/l; touch -d '2005-06-07 08:09:10.111111111' d/s; touch -d '1960-01-02 03:04:05.5' d/s/g";

export const metadata: readonly Case[] = [
  row("modes without -p", modes, `cp -r d e; ${unlock}`),
  row("modes with -p", modes, `cp -rp d e; ${unlock}`),
  row("modes with a wide umask", modes, `umask 0; cp -r d e; ${unlock}`),
  row("modes with a narrow umask", modes, `umask 077; cp -r d e; ${unlock}`),
  row("-p with a narrow umask", modes, `umask 077; cp -rp d e; ${unlock}`),
  row(
    "modes with an umask that denies the owner",
    "echo x >a; mkdir d; echo y >d/f",
    "umask 0777; cp -r d e; cp a b; umask 022; chmod 755 e",
  ),
  row("--no-preserve=mode", modes, `cp -r --no-preserve=mode d e; ${unlock}`),
  row("-a --no-preserve=mode", modes, `cp -a --no-preserve=mode d e; ${unlock}`),
  row("--preserve=mode", modes, `cp -r --preserve=mode d e; ${unlock}`),
  row("--no-preserve=mode over a file", "echo x >a; echo y >b; chmod 600 b; chmod 755 a", "cp --no-preserve=mode a b"),
  row("times with -p", dated, "cp -rp d e"),
  row("times with -a", dated, "cp -a d e"),
  row("times with --preserve=timestamps", dated, "cp -r --preserve=timestamps d e"),
  row("no times with -a --no-preserve=timestamps", dated, "cp -a --no-preserve=timestamps d e"),
  row("times of an existing directory", `${dated}; mkdir -p e/d/s`, "cp -a d e"),
  row("times of an existing directory without -p", `${dated}; mkdir -p e/d/s; echo z >e/d/s/z; touch -d 2001-01-01 e/d e/d/s`, "cp -r d e"),
  row("owners with -p", "mkdir d; echo x >d/f; ln -s f d/l; chown -hR 1:2 d; chown 3:4 d/f", "cp -rp d e", { as: "root" }),
  row(
    "owners with --preserve=ownership",
    "mkdir d; echo x >d/f; chmod 4755 d/f; chown 3:4 d/f; chmod 6755 d/f",
    "cp -r --preserve=ownership d e",
    { as: "root" },
  ),
  row(
    "no owners with -a --no-preserve=ownership",
    "mkdir d; echo x >d/f; chown 3:4 d/f; chmod 6755 d/f",
    "cp -a --no-preserve=ownership d e",
    { as: "root" },
  ),
  row("somebody else's file", ":", "cp -p f g", { as: "user", rootSetup: "echo x >f; chmod 6755 f; chown 3:4 f; chmod 6755 f" }),
  row("somebody else's file with -a", ":", "cp -a f g", { as: "user", rootSetup: "echo x >f; chown 3:4 f; chmod 4755 f" }),
  row("somebody else's tree with -a", ":", "cp -a d e", {
    as: "user",
    rootSetup: "mkdir -m 1777 d; mkdir -m 2755 d/s; echo x >d/f; ln -s f d/l; chown -hR 3:4 d; chmod 1777 d; chmod 2755 d/s",
  }),
  row("somebody else's file without -p", ":", "cp f g", { as: "user", rootSetup: "echo x >f; chown 3:4 f; chmod 6755 f" }),
  row("setuid over an existing file with -p", "echo x >a; chmod 4755 a; echo y >b", "cp -p a b"),
  row("a setuid file that is overwritten", "echo x >a; echo y >b; chmod 4755 b", "cp a b"),
  row("setgid directories give their group", "mkdir -p s/t; echo x >s/f", "cp -r s d", {
    as: "root",
    rootSetup: "mkdir d; chgrp 5 d; chmod 2775 d",
  }),
  row("setgid directories with -a", "mkdir -p s/t; echo x >s/f", "cp -a s d", {
    as: "root",
    rootSetup: "mkdir d; chgrp 5 d; chmod 2775 d",
  }),
  row("xattrs with -a", "echo x >f; setfattr -n user.one -v 1 f; setfattr -n user.two -v '' f", "cp -a f g", { xattrs: true, on: "ext4" }),
  row("xattrs without -a", "echo x >f; setfattr -n user.one -v 1 f", "cp -p f g", { xattrs: true, on: "ext4" }),
  row(
    "xattrs with --preserve=xattr",
    "echo x >f; chmod 444 f; setfattr -n user.one -v 1 f || { chmod 644 f; setfattr -n user.one -v 1 f; chmod 444 f; }",
    "cp --preserve=xattr f g",
    { xattrs: true, on: "ext4" },
  ),
  row("xattrs of directories", "mkdir -p d/s; setfattr -n user.one -v 1 d/s", "cp -a d e", { xattrs: true, on: "ext4" }),
  row("xattrs over a file", "echo x >f; echo y >g; setfattr -n user.one -v 1 f; setfattr -n user.old -v 1 g", "cp -a f g", {
    xattrs: true,
    on: "ext4",
  }),
  row("an ACL with -p", "echo x >f; setfacl -m u:7:r f", "cp -p f g", { xattrs: true, on: "ext4" }),
  row("an ACL with -a", "mkdir d; echo x >d/f; setfacl -m u:7:r d/f; setfacl -m d:u:8:rx d; setfacl -m u:8:rwx d", "cp -a d e", {
    xattrs: true,
    on: "ext4",
  }),
  row("an ACL without -p", "echo x >f; setfacl -m u:7:rw f", "cp f g", { xattrs: true, on: "ext4" }),
  row("an ACL over a file with an ACL", "echo x >f; echo y >g; setfacl -m u:7:rw f; setfacl -m u:9:r g", "cp -p f g", {
    xattrs: true,
    on: "ext4",
  }),
  row("no ACL over a file with an ACL", "echo x >f; echo y >g; setfacl -m u:9:r g", "cp -p f g", { xattrs: true, on: "ext4" }),
  row(
    "a default ACL rules new files",
    "mkdir d s; setfacl -m d:u:7:rw,d:g::r,d:o::- d; echo x >s/f; mkdir s/t; echo y >s/t/g",
    "cp s/f d; cp -r s d",
    { xattrs: true, on: "ext4" },
  ),
  row("a default ACL and -p", "mkdir d s; setfacl -m d:u:7:rw d; echo x >s/f; mkdir s/t; echo y >s/t/g", "cp -p s/f d; cp -rp s d", {
    xattrs: true,
    on: "ext4",
  }),
  row("a default ACL and --no-preserve=mode", "mkdir d s; setfacl -m d:u:7:rw d; echo x >s/f", "cp --no-preserve=mode s/f d", {
    xattrs: true,
    on: "ext4",
  }),
  row("a default ACL and a wide umask", "mkdir d; setfacl -m d:u:7:rw,d:m::rwx d; echo x >f; chmod 666 f", "umask 077; cp f d", {
    xattrs: true,
    on: "ext4",
  }),
  row("a capability", "cp /bin/true f; setcap cap_net_raw+ep f", "cp -a f g; cp f h", { xattrs: true, on: "ext4", as: "root" }),
  row("-a to where there is no xattr is silent", "echo x >f", "cp -a /sys/kernel/fscaps x; echo done"),
  row("--preserve=all", "mkdir d; echo x >d/f; ln d/f d/g; touch -d 2003-03-03 d/f", "cp -r --preserve=all d e"),
  row("--preserve=context without SELinux", "echo x >f", "cp --preserve=context f g"),
  row("--preserve=nothing known", "echo x >f", "cp --preserve=nope f g"),
  row("-Z without SELinux", "echo x >f", "cp -Z f g"),
  row("--context without SELinux", "echo x >f", "cp --context=a:b:c f g"),
  row("-p --no-preserve=all", "echo x >f; touch -d 2003-03-03 f; chmod 604 f", "cp -p --no-preserve=all f g"),
  row("access times with -p", "echo x >f; touch -ad 2003-03-03 f", "cp -p f g; stat -c %X g"),
];
