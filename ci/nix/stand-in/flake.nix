{
  description = "stand-in for nixpkgs, for CI without it";
  outputs =
    _:
    let
      lib = import ./lib.nix;
    in
    {
      lib = lib // {
        nixosSystem =
          a:
          import ./nixos.nix {
            inherit lib;
            pkgs = import ./. { };
          } a.modules;
      };
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
        system: import ./. { inherit system; }
      );
    };
}
