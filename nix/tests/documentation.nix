# The example of docs/OPERATIONS.md, as it stands there: three hosts with it start.
{
  self,
  pkgs,
  ids,
}:
let
  inherit (pkgs) lib;
  # Neither mark has a character that means something in a regular expression.
  between =
    before: after: text:
    lib.head (builtins.split after (builtins.elemAt (builtins.split before text) 2));
  marked = between "<!-- nixos example: begin -->" "<!-- nixos example: end -->" (
    lib.readFile ../../docs/OPERATIONS.md
  );
  example = builtins.toFile "ring.nix" (between "```nix\n" "\n```" marked);
in
pkgs.testers.runNixOSTest {
  name = "chainsync-documentation";
  nodes = lib.genAttrs [ "apollo" "chronos" "hermes" ] (name: {
    imports = [
      self.nixosModules.default
      example
    ];
    # Keys whose ids are known here; the example's are somebody else's.
    services.chainsync = {
      keyFile = lib.mkForce "/etc/snakeoil/node.key";
      nodes = lib.genAttrs [ "apollo" "chronos" "hermes" ] (other: {
        address = lib.mkForce "${other}:7420";
        id = lib.mkForce ids.${other};
      });
    };
    environment.etc."snakeoil/node.key" = {
      source = ./snakeoil + "/${name}.key";
      mode = "0400";
    };
  });
  testScript = ''
    start_all()
    for node in (apollo, chronos, hermes):
        node.wait_for_unit("chainsync.service")
    apollo.succeed("echo hello > /var/www/images/hello && chown nginx:nginx /var/www/images/hello")
    apollo.succeed("chainsync flush --timeout 60s")
    assert hermes.succeed("cat /var/www/images/hello") == "hello\n"
  '';
}
