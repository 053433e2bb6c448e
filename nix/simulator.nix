# The simulator, which is also what writes and audits in the VM tests.
{
  lib,
  rustPlatform,
}:
rustPlatform.buildRustPackage {
  pname = "chainsync-simulator";
  inherit ((lib.importTOML ../Cargo.toml).workspace.package) version;
  src = import ./source.nix { inherit lib; };
  cargoLock.lockFile = ../Cargo.lock;

  cargoBuildFlags = [
    "--package"
    "chainsync-sim"
  ];
  doCheck = false;

  meta = {
    description = "Replays chainsync's scenarios, simulated and on real machines";
    license = with lib.licenses; [
      mit
      asl20
    ];
    mainProgram = "chainsync-sim";
    platforms = lib.platforms.linux;
  };
}
