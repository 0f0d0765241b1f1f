#!/bin/sh
# Runs the tests that take minutes (tests/long). Arguments go to vitest: npm run test:long -- tests/long/openapi
set -eu
cd "$(dirname "$0")/.."
sh scripts/install.sh
sh scripts/build.sh
exec node_modules/.bin/vitest run --project long "$@"
