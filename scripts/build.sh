#!/bin/sh
# Generates the Prisma client when the schema is newer than it, compiles every workspace to its dist/, and joins what a job process reads.
set -eu
cd "$(dirname "$0")/.."
. scripts/say.sh

schema=prisma/schema.prisma
client=packages/store/src/generated
stamp=node_modules/.octet-prisma-client
if [ ! -d "$client" ] || [ ! -f "$stamp" ] || [ -n "$(find "$schema" -newer "$stamp")" ]; then
  log=node_modules/.octet-prisma-client.log
  export PRISMA_SCHEMA_ENGINE_BINARY=/bin/true PRISMA_HIDE_UPDATE_MESSAGE=1
  saying 'Generating the database client' sh -c '"$@" >"$0" 2>&1' "$log" node_modules/.bin/prisma generate --config prisma/prisma.config.ts || {
    cat "$log" >&2
    exit 1
  }
  touch "$stamp"
fi
# Types are judged by `npm run check`; leaving that out here builds four times as fast.
saying 'Building' node_modules/.bin/tsc -b tsconfig.build.json --noCheck
saying 'Bundling' node scripts/bundle.mjs
