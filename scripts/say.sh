# Sourced by the other scripts. Runs a command and says every 5 s, on standard error, how long it has been at it:
#   saying 'Installing dependencies' npm ci
saying() {
  title=$1
  shift
  # The clock ends with the command, and by itself when this shell was killed.
  (
    seconds=0
    while sleep 4.5 && kill -0 $$ 2>/dev/null; do
      seconds=$((seconds + 9))
      printf '%s: %s s\n' "$title" "$((seconds / 2))" >&2
    done
  ) &
  clock=$!
  code=0
  "$@" || code=$?
  kill "$clock" 2>/dev/null || true
  wait "$clock" 2>/dev/null || true
  return "$code"
}
