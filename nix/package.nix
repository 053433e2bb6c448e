# The daemon: the binary, its man pages and completions.
{ lib, rustPlatform }:
import ./crate.nix { inherit lib rustPlatform; } {
  pname = "chainsync";
  cargoBuildFlags = [
    "--package"
    "chainsync"
  ];
  # Those that need neither time nor a network. `ci/test` runs them all.
  cargoTestFlags = [
    "--package"
    "chainsync-core"
    "--package"
    "chainsync-engine"
  ];

  postInstall = ''
    $out/bin/chainsync generate man $out/share/man/man1
    $out/bin/chainsync generate completions completions
    install -Dm644 completions/chainsync.bash $out/share/bash-completion/completions/chainsync.bash
    install -Dm644 completions/_chainsync $out/share/zsh/site-functions/_chainsync
    install -Dm644 completions/chainsync.fish $out/share/fish/vendor_completions.d/chainsync.fish
  '';

  meta = {
    description = "Keeps a directory identical on several web servers, one way round a ring";
    mainProgram = "chainsync";
  };
}
