#!/bin/sh
# Runs one benchmark: npm run bench -- engine [options]. Without a name it lists what there is.
set -eu
cd "$(dirname "$0")/.."
name=${1-}
if [ -z "$name" ] || [ ! -f "bench/$name/main.ts" ]; then
  [ -z "$name" ] || printf 'octet: there is no benchmark "%s".\n' "$name" >&2
  echo 'Usage: npm run bench -- NAME [options], where NAME is one of:'
  for file in bench/*/main.ts; do
    [ -f "$file" ] && printf '  %s\n' "$(basename "$(dirname "$file")")"
  done
  [ -z "$name" ]
  exit
fi
shift
sh scripts/install.sh
exec node_modules/.bin/tsx "bench/$name/main.ts" "$@"
