# Debian guests, for scripts that source this: one small system, made once, that they unpack.
# shellcheck shell=bash

included=systemd,systemd-sysv,udev,dbus,kmod,iproute2,nftables,initramfs-tools,linux-image-cloud-amd64,nginx-light
# As here, so that what is built here runs there.
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# It stays between runs.
cache=${VM_CACHE:-$HOME/.cache/chainsync-vm}
debian_tar=$cache/debian-$(sha256sum <<<"$suite $included" | cut -c1-8).tar
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

# A Debian as small as it gets with systemd, a kernel, nft and a web server that is not started: $debian_tar.
# Uses debootstrap.
debian() {
  [ -f "$debian_tar" ] && return
  echo "ci/$(basename "$0") makes a Debian for the guests (two minutes, once)" >&2
  local mirror
  mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | grep -v security | head -n 1)
  [ -n "$mirror" ] || mirror=$(awk '$1 == "deb" && $2 ~ /^http/ && $2 !~ /security/ { print $2; exit }' /etc/apt/sources.list)
  mkdir -p "$cache" && making=$(mktemp -d "$cache/making.XXXXXX") || return 1
  debootstrap --variant=minbase --include="$included" "$suite" "$making/root" "$mirror" >"$cache/debootstrap.log" 2>&1 ||
    { tail -n 20 "$cache/debootstrap.log" >&2; return 1; }
  # Disabled alone, the first boot would enable it again.
  chroot "$making/root" systemctl --quiet mask nginx.service || return 1
  rm -rf "$making"/root/var/cache/apt/archives/*.deb "$making"/root/var/lib/apt/lists/*
  tar -C "$making/root" -cf "$debian_tar.part" . && mv "$debian_tar.part" "$debian_tar" || return 1
  rm -rf -- "$making"
  making=
}
