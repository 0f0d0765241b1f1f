#!/bin/sh
# Runs the tests that take minutes: tests/long, and those that go on longer here than in npm test. Arguments go to vitest: npm run test:long -- tests/long/openapi
set -eu
cd "$(dirname "$0")/.."
sh scripts/install.sh
sh scripts/build.sh
[ $# -gt 0 ] || set -- tests/long tests/frozen-database.test.ts
OCTET_LONG_TESTS=1 exec node_modules/.bin/vitest run --project long --project service "$@"
