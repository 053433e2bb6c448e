# One VM test for each scenario that has "vm" in `on`. What a test does is in scenario.py, which Debian
# guests run as well (`ci/vm`).
{ self, pkgs }:
let
  inherit (pkgs) lib;
  inherit (pkgs.stdenv.hostPlatform) system;

  directory = ../../scenarios;
  files = lib.filter (lib.hasSuffix ".toml") (lib.attrNames (builtins.readDir directory));
  read = file: lib.importTOML (directory + "/${file}");

  # Keys that everybody knows, for machines that nobody else reaches.
  ids = {
    apollo = "cs1gesyt6ll47km63uvasuupsscf32xmhdrswiciged76a7d4f56yqa";
    chronos = "cs1t2p3pgugf43hoxz73pieqqjzlnnxvj63m5mhudehg5qsx3hejo4q";
    hermes = "cs1skldch5wy4he74yjvblfvxb4yy4nfy5cle4cnjssh25ur2myxngq";
    iris = "cs1knwzrcpabusrt3oovojhkhanobz74ovk4zjtxer5awkl742bc4mq";
  };

  test =
    file:
    let
      scenario = read file;
      # Written once, for all hosts.
      ring =
        { config, ... }:
        {
          imports = [ self.nixosModules.default ];
          services.chainsync = {
            enable = true;
            openFirewall = true;
            keyFile = "/etc/snakeoil/node.key";
            nodes = lib.genAttrs scenario.nodes (name: {
              address = "${name}:7420";
              id = ids.${name};
            });
            shares.files = {
              path = "/srv/files";
              ring = scenario.nodes;
            };
            settings = scenario.config or { };
          };
          environment.etc."snakeoil/node.key" = {
            source = ./snakeoil + "/${config.networking.hostName}.key";
            mode = "0400";
          };
          environment.etc."chainsync-test/scenario.toml".source = directory + "/${file}";
          environment.systemPackages = [
            self.packages.${system}.simulator
            pkgs.nftables
          ];
          systemd.tmpfiles.rules = [ "d /srv/files 0755 chainsync chainsync" ];
          virtualisation = {
            cores = 1;
            memorySize = 768;
            diskSize = 4096;
          };
        };
    in
    lib.nameValuePair "vm-${lib.removeSuffix ".toml" file}" (
      pkgs.testers.runNixOSTest {
        name = "chainsync-${lib.removeSuffix ".toml" file}";
        nodes = lib.genAttrs scenario.nodes (_: ring);
        testScript = ''
          import json

          NODES = {node.name: node for node in (${lib.concatStringsSep ", " scenario.nodes})}
          SCENARIO = json.loads(r"""${builtins.toJSON scenario}""")

          ${builtins.readFile ./scenario.py}
        '';
      }
    );
in
lib.listToAttrs (map test (lib.filter (file: lib.elem "vm" (read file).on) files))
// {
  vm-documentation = import ./documentation.nix { inherit self pkgs ids; };
}
