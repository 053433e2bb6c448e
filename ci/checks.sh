# For scripts that source this: a work directory, checks that are counted, and an end that leaves nothing
# behind. `begin_in` is called first.
# shellcheck shell=bash
set -uo pipefail
export LC_ALL=C
unset CHAINSYNC_SOCKET RUST_LOG
exec </dev/null
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1

nodes=(apollo chronos hermes)
# What runs for each of them, by pid.
declare -A daemon=()
passed=0 failed=0
# Between two attempts of `within`, in seconds.
interval=0.1
# Other processes that the script has started and not waited for.
others=()

cannot_begin() {
  echo "ci/$(basename "$0") cannot begin: $*" >&2
  exit 2
}

# Leaves the binary to run in $bin: CHAINSYNC_BIN names it; unset, the release build is made.
find_binary() {
  if [ -z "${CHAINSYNC_BIN:-}" ]; then
    (cd "$here" && cargo build --quiet --release --locked -p chainsync) || exit 1
    CHAINSYNC_BIN=${CARGO_TARGET_DIR:-$here/target}/release/chainsync
  fi
  bin=$(realpath -e -- "$CHAINSYNC_BIN") || exit 1
}

# begin_in DIRECTORY: makes a directory of this run's own in there. Before it, nothing has to be undone.
begin_in() {
  mkdir -p "$1" && work=$(mktemp -d "$1/chainsync-$(basename "$0").XXXXXX") || exit 1
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# What a script has to undo once its daemons have ended.
undo() { :; }

# Ends what the script started, by pid, and nothing else.
clean_up() {
  local code=$? pid
  trap - EXIT INT TERM
  for pid in "${daemon[@]}" "${others[@]}"; do
    kill -KILL "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
  done
  undo || failed=1
  if [ "$failed" -eq 0 ]; then rm -rf --one-file-system -- "$work"; else echo "logs are in $work" >&2; fi
  exit "$code"
}

# check WHAT COMMAND...: one line, with what the command left in $note; what a failed one said comes below.
check() {
  local what=$1
  shift
  note=
  if "$@" >"$work/said" 2>&1; then
    passed=$((passed + 1))
    printf 'ok      %s%s\n' "$what" "${note:+ ($note)}"
  else
    failed=$((failed + 1))
    printf 'FAILED  %s%s\n' "$what" "${note:+ ($note)}"
    head -n 40 "$work/said" | sed 's/^/        | /'
    return 1
  fi
}

# The last line, and whether all is well.
counted() {
  printf '%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ]
}

# within SECONDS COMMAND...: asks again until it succeeds; leaves the time it took in $note.
within() {
  local seconds=$1 began=${EPOCHREALTIME/./} took
  shift
  until "$@" >"$work/attempt" 2>&1; do
    if ((${EPOCHREALTIME/./} - began > seconds * 1000000)); then
      echo "not within $seconds s: $*"
      cat "$work/attempt"
      return 1
    fi
    sleep "$interval"
  done
  took=$((${EPOCHREALTIME/./} - began))
  printf -v note '%d.%03d s' $((took / 1000000)) $((took / 1000 % 1000))
}
