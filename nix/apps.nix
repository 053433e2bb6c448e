# `nix run .#replay -- scenarios/storm.toml --seed 7`, and `nix run .#interactive` for a ring of three
# virtual machines to look around in.
{ self, pkgs }:
let
  inherit (pkgs) lib;
  packages = self.packages.${pkgs.stdenv.hostPlatform.system};
  app = program: description: {
    type = "app";
    inherit program;
    meta = { inherit description; };
  };
  replay = pkgs.writeShellScriptBin "replay" ''
    exec ${lib.getExe packages.simulator} run "$@"
  '';
in
{
  default = app (lib.getExe packages.chainsync) "chainsync itself";
  replay = app (lib.getExe replay) "Replays a scenario in the simulation";
  interactive = app "${self.checks.${pkgs.stdenv.hostPlatform.system}.vm-storm.driverInteractive}/bin/nixos-test-driver" "Three virtual machines with a ring, and a Python prompt";
}
