# What `ci/test` says of the code itself.
{ pkgs }:
let
  inherit (pkgs) lib rustPlatform;
  cargo =
    name: command:
    rustPlatform.buildRustPackage {
      pname = "chainsync-${name}";
      inherit ((lib.importTOML ../Cargo.toml).workspace.package) version;
      src = import ./source.nix { inherit lib; };
      cargoLock.lockFile = ../Cargo.lock;
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
