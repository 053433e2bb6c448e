# What all that cargo builds here has in common; the rest is said by each.
{ lib, rustPlatform }:
let
  manifest = lib.importTOML ../Cargo.toml;
in
args:
rustPlatform.buildRustPackage (
  {
    inherit (manifest.workspace.package) version;
    # What a build reads, and nothing else: a changed document builds nothing again.
    src = lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions (
        [
          ../Cargo.lock
          ../Cargo.toml
          ../clippy.toml
          ../rustfmt.toml
          ../scenarios
        ]
        ++ map (member: ../. + "/${member}") manifest.workspace.members
      );
    };
    cargoLock.lockFile = ../Cargo.lock;
  }
  // args
  // {
    meta = {
      license = with lib.licenses; [
        mit
        asl20
      ];
      platforms = lib.platforms.linux;
    }
    // args.meta or { };
  }
)
