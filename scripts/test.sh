#!/bin/sh
# Installs what the tests need, builds, and runs them. Arguments go to vitest: npm test -- packages/quant-core
set -eu
cd "$(dirname "$0")/.."
sh scripts/install.sh

if ! command -v redis-server >/dev/null 2>&1; then
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo 'Installing redis-server (apt-get) ...'
    log=$( (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server) 2>&1) || {
      printf '%s\noctet: redis-server could not be installed; the lines above say why.\n' "$log" >&2
      exit 1
    }
  else
    echo 'octet: the tests start a Redis of their own and need the program redis-server (6.2 or newer).' >&2
    echo '  Debian, Ubuntu:  sudo apt-get install redis-server' >&2
    echo '  macOS:           brew install redis' >&2
    exit 1
  fi
fi

# ONNX's conformance data; the test that runs over it is skipped where the package cannot be had.
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1 && [ ! -d /usr/share/libonnx-testdata ]; then
  (timeout 60 apt-get update -qq; timeout 120 apt-get install -y -qq --no-install-recommends libonnx-testdata) >/dev/null 2>&1 ||
    echo 'octet: libonnx-testdata could not be installed; its test is skipped.' >&2
fi

sh scripts/build.sh
exec node_modules/.bin/vitest run --project core --project service "$@"
