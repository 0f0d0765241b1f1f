#!/bin/sh
# Installs the dependencies of this checkout when they are missing or older than package-lock.json.
set -eu
cd "$(dirname "$0")/.."
. scripts/say.sh

fail() {
  printf 'octet: %s\n' "$1" >&2
  exit 1
}

command -v node >/dev/null 2>&1 || fail 'Node.js is not installed. Install Node 20.19 or newer (https://nodejs.org) and try again.'
command -v npm >/dev/null 2>&1 || fail 'npm is not installed. It comes with Node.js; on Debian: apt-get install npm'
node -e '
  const [major, minor] = process.versions.node.split(".").map(Number);
  process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1);
' || fail "Node $(node --version) is too old: Octet needs 20.19 or newer."

# npm writes this file last, so an interrupted installation leaves none.
installed=node_modules/.package-lock.json
if [ ! -f "$installed" ] || [ -n "$(find package-lock.json -newer "$installed")" ]; then
  echo 'Installing dependencies (npm ci) ...'
  saying 'Installing dependencies' npm ci --no-update-notifier ||
    fail 'npm ci failed; the lines above say why. Nothing else was changed.'
  touch "$installed"
fi
