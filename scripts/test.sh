#!/bin/sh
# npm test: installs what is missing, then runs every test; the last line is the count.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
sh "$root/scripts/bootstrap.sh" test
cd "$root"
exec node_modules/.bin/bun scripts/run-tests.ts "$@"
