#!/bin/sh
# Brings what copyd needs to run from a checkout: the pinned Bun, the packages of bun.lock, and Debian's packages.
#
#   sh scripts/bootstrap.sh start|test
#
# Needs npm, and nothing else. Says on standard error what it does, and nothing when all is there, which takes some ten
# milliseconds. Safe to run twice at once: the slow way is behind a lock.
set -eu

purpose=${1:-start}
root=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$root"
PATH=$PATH:/usr/sbin:/sbin
bun=node_modules/.bin/bun
stamp=node_modules/.copyd-installed

say() { printf 'copyd: %s\n' "$*" >&2; }

version=$(sed -n 's/^ *"bun": "\([0-9.]*\)".*/\1/p' package.json | head -n 1)

is_pinned_bun() { [ -x "$1" ] && [ "$("$1" --version 2>/dev/null)" = "$version" ]; }

wanted_stamp() { cat package.json bun.lock patches/* | cksum; }

packages_are_installed() {
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted_stamp)" ] && is_pinned_bun "$bun"
}

# Bun's own npm package finds its binary in a postinstall script, which npm may refuse to run and which needs node. The
# binary itself lies in a package per platform; that one is fetched, and no script runs.
platform_package() {
  case $(uname -m) in
    x86_64) if grep -qw avx2 /proc/cpuinfo; then echo @oven/bun-linux-x64; else echo @oven/bun-linux-x64-baseline; fi ;;
    aarch64) echo @oven/bun-linux-aarch64 ;;
    *) say "Bun does not run on $(uname -m): x86_64 and aarch64 are served"; return 1 ;;
  esac
}

# The path of a Bun of the pinned version, which may lie in the scratch folder $1.
find_or_fetch_bun() {
  for candidate in "$bun" "$(command -v bun || true)"; do
    if is_pinned_bun "$candidate"; then echo "$candidate"; return; fi
  done
  package=$(platform_package)
  command -v npm >/dev/null || { say "npm is not installed: it brings the pinned Bun (Debian: apt-get install npm)"; return 1; }
  say "installing Bun $version ($package) with npm"
  npm install --prefix "$1" --no-save --ignore-scripts --no-audit --no-fund --loglevel=error "$package@$version" >/dev/null || {
    say "npm could not install $package@$version; its message is above"
    return 1
  }
  # npm compared what it fetched with what its registry says; the lock file says it again, for the packages that it names.
  checksum=$(sed -n 's/.*"integrity": "\(sha512-[^"]*\)".*/\1/p' "$1/node_modules/.package-lock.json")
  if grep -q "\"$package@$version\"" bun.lock && ! grep -qF "$checksum" bun.lock; then
    say "what npm fetched as $package@$version is not what bun.lock names: refusing to run it"
    return 1
  fi
  echo "$1/node_modules/$package/bin/bun"
}

install_packages() {
  mkdir -p node_modules
  scratch=$(mktemp -d node_modules/.bootstrap-XXXXXX)
  trap 'rm -rf "$scratch"' EXIT
  found=$(find_or_fetch_bun "$scratch")
  case $found in /*) ;; *) found=$root/$found ;; esac
  cp -L "$found" "$scratch/bun"
  say "installing the packages of bun.lock with Bun"
  "$scratch/bun" install --frozen-lockfile --ignore-scripts --no-progress >"$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    say "Bun could not install the packages of bun.lock; its message is above"
    return 1
  }
  # No script ran, so the package `bun` still holds a placeholder: put the binary there that has just shown that it runs.
  for name in bun bunx; do
    ln -f "$scratch/bun" "node_modules/bun/bin/$name.exe"
  done
  wanted_stamp >"$stamp"
  rm -rf "$scratch"
  trap - EXIT
}

# package:probe, where a probe is a program, or a file (with wildcards) that the package brings.
start_packages="liburing2:/usr/lib*/*/liburing.so.2 dbus:dbus-daemon"
test_packages="systemd-container:systemd-nspawn e2fsprogs:mkfs.ext4 xfsprogs:mkfs.xfs btrfs-progs:mkfs.btrfs acl:setfacl
  attr:setfattr libcap2-bin:setcap rsync:rsync strace:strace liburing-dev:/usr/include/liburing.h gcc:gcc
  libc6-dev:/usr/include/stdio.h libglib2.0-bin:gdbus python3-dbus:/usr/lib/python3/dist-packages/dbus/__init__.py
  python3-gi:/usr/lib/python3/dist-packages/gi/__init__.py polkitd:pkaction libxml2-utils:xmllint groff-base:groff man-db:man
  fuse3:fusermount3 libfuse3-dev:/usr/include/fuse3/fuse.h"

is_there() {
  case $1 in
    /*) for file in $1; do [ -e "$file" ] && return; done; return 1 ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

missing_packages() {
  wanted=$start_packages
  [ "$purpose" = test ] && wanted="$wanted $test_packages"
  missing=
  for entry in $wanted; do
    is_there "${entry#*:}" || missing="$missing ${entry%%:*}"
  done
  echo $missing
}

apt_install() { apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"; }

install_system_packages() {
  [ -n "$missing" ] || return 0
  if ! command -v apt-get >/dev/null; then
    say "not found here: what Debian calls $missing; install it with your system's package manager"
  elif [ "$(id -u)" != 0 ]; then
    say "some of what serves here is missing; to install it: sudo apt-get install -y $missing"
  else
    say "installing Debian packages: $missing"
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    apt_install $missing >"$log" 2>&1 </dev/null || { apt-get update -qq && apt_install $missing; } >>"$log" 2>&1 </dev/null || {
      tail -n 5 "$log" >&2
      say "apt-get could not install them (above): going on with what there is"
    }
    rm -f "$log"
  fi
}

missing=$(missing_packages)
if packages_are_installed && [ -z "$missing" ]; then exit 0; fi

# The lock is on package.json itself, so that it needs no file of its own.
exec 9<package.json
if command -v flock >/dev/null; then
  flock 9
  # Of a run that was killed: nobody else is at it.
  rm -rf node_modules/.bootstrap-*
fi
packages_are_installed || install_packages
missing=$(missing_packages)
install_system_packages
