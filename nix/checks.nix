# What `ci/test` says of the code itself.
{ pkgs }:
let
  crate = import ./crate.nix { inherit (pkgs) lib rustPlatform; };
  cargo =
    name: command:
    crate {
      pname = "chainsync-${name}";
      nativeBuildInputs = [
        pkgs.clippy
        pkgs.rustfmt
      ];
      buildPhase = command;
      doCheck = false;
      installPhase = "touch $out";
    };
in
{
  clippy = cargo "clippy" "cargo clippy --workspace --all-targets --offline -- --deny warnings";
  formatting = cargo "formatting" "cargo fmt --all --check";
}
