#!/bin/sh
# Everything that can be judged without running the product: types, lint and format, import directions, unused code, drift.
# Each check runs even when an earlier one failed, so that one run shows all there is to mend.
set -eu
cd "$(dirname "$0")/.."
sh scripts/install.sh
sh scripts/build.sh

failed=''
check() {
  title=$1
  shift
  printf '%s\n' "- $title"
  "$@" || failed="$failed, $title"
}

check 'types (tsc)' node_modules/.bin/tsc --noEmit
check 'lint and format (biome)' node_modules/.bin/biome check --error-on-warnings .
check 'import directions and rings (dependency-cruiser)' node_modules/.bin/depcruise packages apps --config .dependency-cruiser.cjs
check 'unused files, exports and dependencies (knip)' node_modules/.bin/knip
check 'apps/api/openapi.json and docs/errors.md against the code (vitest)' node_modules/.bin/vitest run --project service --reporter=dot apps/api/src/documents.test.ts
check 'apps/api/openapi.json is valid OpenAPI (@seriousme/openapi-schema-validator)' node scripts/check-openapi.mjs
check 'lock file (no registry named, every platform listed)' node scripts/check-lock.mjs
if docker compose version >/dev/null 2>&1; then
  check 'docker-compose.yml' docker compose config --quiet
elif command -v docker-compose >/dev/null 2>&1; then
  check 'docker-compose.yml' docker-compose config --quiet
else
  echo '- docker-compose.yml: skipped, docker compose is not installed'
fi

if [ -n "$failed" ]; then
  printf 'Failed: %s\n' "${failed#, }" >&2
  exit 1
fi
echo 'All checks passed.'
