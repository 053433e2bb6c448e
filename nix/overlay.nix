# For systems that take chainsync from `pkgs`.
final: _: {
  chainsync = final.callPackage ./package.nix { };
  chainsync-simulator = final.callPackage ./simulator.nix { };
}
