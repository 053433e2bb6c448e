{
  description = "Keeps a directory identical on several web servers, one way round a ring";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAllSystems = f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      packages = pkgs: {
        chainsync = pkgs.callPackage ./nix/package.nix { };
        simulator = pkgs.callPackage ./nix/simulator.nix { };
      };
    in
    {
      packages = forAllSystems (
        pkgs: packages pkgs // { default = self.packages.${pkgs.stdenv.hostPlatform.system}.chainsync; }
      );

      overlays.default = import ./nix/overlay.nix;

      nixosModules = rec {
        chainsync = lib.modules.importApply ./nix/module.nix { inherit self; };
        default = chainsync;
      };

      checks = forAllSystems (
        pkgs:
        {
          package = self.packages.${pkgs.stdenv.hostPlatform.system}.chainsync;
        }
        // import ./nix/checks.nix { inherit pkgs; }
        // import ./nix/tests { inherit self pkgs; }
      );

      devShells = forAllSystems (pkgs: {
        default = pkgs.callPackage ./nix/shell.nix { };
      });

      formatter = forAllSystems (pkgs: pkgs.nixfmt);

      apps = forAllSystems (pkgs: import ./nix/apps.nix { inherit self pkgs; });
    };
}
