# The simulator, which is also what writes and audits in the VM tests.
{ lib, rustPlatform }:
import ./crate.nix { inherit lib rustPlatform; } {
  pname = "chainsync-simulator";
  cargoBuildFlags = [
    "--package"
    "chainsync-sim"
  ];
  doCheck = false;

  meta = {
    description = "Replays chainsync's scenarios, simulated and on real machines";
    mainProgram = "chainsync-sim";
  };
}
