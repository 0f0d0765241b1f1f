#!/bin/sh
# Installs, builds and serves: API and worker in one process, on embedded Postgres unless DATABASE_URL is set.
set -eu
cd "$(dirname "$0")/.."
sh scripts/install.sh
sh scripts/build.sh
exec node apps/cli/dist/main.js serve "$@"
