# Debian guests, for scripts that source this: one small system, made once, that they unpack.
# shellcheck shell=bash

# It stays between runs.
cache=${VM_CACHE:-$HOME/.cache/chainsync-vm}
# What whoever is interrupted has to remove.
making=

# install_missing PACKAGE...: with apt-get, and says so.
install_missing() {
  local one missing=()
  for one; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$one" 2>/dev/null)" = installed ] || missing+=("$one")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  echo "ci/$(basename "$0") installs: ${missing[*]}" >&2
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; } \
    >&2 </dev/null
}

# A Debian as small as it gets with systemd, a kernel and nft: $cache/debian.tar. Uses debootstrap.
debian() {
  [ -f "$cache/debian.tar" ] && return
  echo "ci/$(basename "$0") makes a Debian for the guests (two minutes, once)" >&2
  local mirror
  mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | grep -v security | head -n 1)
  [ -n "$mirror" ] || mirror=$(awk '$1 == "deb" && $2 ~ /^http/ && $2 !~ /security/ { print $2; exit }' /etc/apt/sources.list)
  mkdir -p "$cache" && making=$(mktemp -d "$cache/making.XXXXXX") || return 1
  debootstrap --variant=minbase \
    --include=systemd,systemd-sysv,udev,dbus,kmod,iproute2,nftables,initramfs-tools,linux-image-cloud-amd64 \
    bookworm "$making/root" "$mirror" >"$cache/debootstrap.log" 2>&1 || { tail -n 20 "$cache/debootstrap.log" >&2; return 1; }
  rm -rf "$making"/root/var/cache/apt/archives/*.deb "$making"/root/var/lib/apt/lists/*
  tar -C "$making/root" -cf "$cache/debian.tar.part" . && mv "$cache/debian.tar.part" "$cache/debian.tar" || return 1
  rm -rf -- "$making"
  making=
}
