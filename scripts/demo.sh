#!/bin/sh
# Installs, builds and runs the demo: a real model through quantization-aware training, on the embedded default.
set -eu
cd "$(dirname "$0")/.."
sh scripts/install.sh
sh scripts/build.sh
# exec: the demo itself receives Ctrl-C, and no shell is left waiting beside it.
exec node apps/cli/dist/main.js demo "$@"
