#!/bin/sh
# npm start -- SOURCE... DEST: copies from a checkout, as `copyd cp -a --progress --local` does once installed.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
sh "$root/scripts/bootstrap.sh" start

# Settings and .env files of the folder that the user happens to stand in are not ours to read.
copyd() { "$root/node_modules/.bin/bun" --no-env-file --config="$root/bunfig.toml" "$root/src/main.ts" "$@"; }

# npm and Bun run scripts in the package's folder; relative paths mean the folder where the user typed the command. npm says it
# in INIT_CWD, Bun in the variable where npm says the package's folder.
if [ "${npm_lifecycle_event:-}" = start ]; then
  case ${npm_config_user_agent:-} in
    bun/*) cd "${npm_config_local_prefix:-.}" ;;
    *) cd "${INIT_CWD:-.}" ;;
  esac
fi

if [ $# -gt 0 ]; then
  copyd cp -a --progress --local "$@"
  exit
fi

scratch=$(mktemp -d "${TMPDIR:-/tmp}/copyd-demo-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
files=$(find "$root" | wc -l)
printf 'Copying this checkout (%s, %s entries, node_modules included) to %s to show how it looks.\n' "$(du -sh "$root" | cut -f1)" "$files" "$scratch/copy"
copyd cp -a --progress --local "$root" "$scratch/copy"
if diff -r --no-dereference "$root" "$scratch/copy" >"$scratch/differences"; then
  echo 'diff -r finds no difference between the two. The copy is removed again.'
else
  head -n 20 "$scratch/differences"
  echo 'diff -r finds these differences (did something write there meanwhile?). The copy is removed again.'
fi
echo 'To copy something of yours:  npm start -- SOURCE... DEST'
