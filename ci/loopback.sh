# Three daemons on loopback, for scripts that source this: a work directory, a ring's configuration, checks
# that are counted, and an end that leaves nothing behind. `work_in` is called first.
#
# CHAINSYNC_BIN names the binary; unset, the release build is made and used.
# shellcheck shell=bash
set -uo pipefail
export LC_ALL=C
unset CHAINSYNC_SOCKET RUST_LOG
exec </dev/null
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 1

nodes=(apollo chronos hermes)
declare -A daemon=() port=()
passed=0 failed=0
# Other processes that the script has started and not waited for.
others=()

cannot_begin() {
  echo "ci/$(basename "$0") cannot begin: $*" >&2
  exit 2
}

# work_in DIRECTORY: makes a directory of this run's own in there. Before it, nothing has to be undone.
work_in() {
  if [ -z "${CHAINSYNC_BIN:-}" ]; then
    (cd "$here" && cargo build --quiet --release --locked -p chainsync) || exit 1
    CHAINSYNC_BIN=${CARGO_TARGET_DIR:-$here/target}/release/chainsync
  fi
  bin=$(realpath -e -- "$CHAINSYNC_BIN") || exit 1
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

share() { echo "$work/$1/share"; }
state() { echo "$work/$1/state"; }

# Ports that are free now; another program may take one until the daemons do, and then we fail.
free_port() {
  local candidate
  for candidate in $(shuf -i 20000-30000 -n 50); do
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# Keys, ports and directories; once.
introduce() {
  local node id
  for node in "${nodes[@]}"; do
    mkdir -p "$work/$node" "$(share "$node")" || return 1
    port[$node]=$(free_port) && id=$("$bin" keygen --out "$work/$node/node.key") || return 1
    printf '[nodes.%s]\naddress = "127.0.0.1:%s"\nid = "%s"\n' "$node" "${port[$node]}" "$id" \
      >>"$work/peers" || return 1
  done
}

# configure [LINE...]: all three files, with these lines in each.
configure() {
  local node
  for node in "${nodes[@]}"; do
    {
      printf 'node = "%s"\nkey = "%s"\n' "$node" "$work/$node/node.key"
      printf 'state = "%s"\nsocket = "%s"\n' "$(state "$node")" "$work/$node/control.sock"
      printf 'listen = "127.0.0.1:%s"\n' "${port[$node]}"
      printf '%s\n' "$@"
      cat "$work/peers"
      printf '[shares.images]\npath = "%s"\nring = ["apollo", "chronos", "hermes"]\n' "$(share "$node")"
    } >"$work/$node/chainsync.toml" || return 1
  done
}

start() {
  "$bin" run --config "$work/$1/chainsync.toml" >>"$work/$1/log" 2>&1 &
  daemon[$1]=$!
}

# ask NODE COMMAND ARGUMENT...: the limit is for a daemon that hangs, beyond that of any command.
ask() { timeout "${ask_max:-60}" "$bin" "$2" --socket "$work/$1/control.sock" "${@:3}"; }

# Most memory that a daemon had at any time, in KiB.
memory_of() { awk '/^VmHWM/ { print $2 }' "/proc/${daemon[$1]}/status"; }

# little_memory KIBIBYTES: less than $memory_max.
little_memory() {
  note="$(($1 / 1024)) MiB"
  [ "$1" -gt 0 ] && [ "$1" -lt "$memory_max" ]
}
