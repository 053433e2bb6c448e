# Three daemons on loopback, for scripts that source this: what checks.sh has, and a ring's configuration.
# `work_in` is called first.
#
# CHAINSYNC_BIN names the binary; unset, the release build is made and used.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/checks.sh"

declare -A port=()

# work_in DIRECTORY: as begin_in, with a binary to run.
work_in() {
  find_binary
  begin_in "$1"
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
