# The daemon: the binary, its man pages and completions.
{
  lib,
  rustPlatform,
}:
rustPlatform.buildRustPackage {
  pname = "chainsync";
  inherit ((lib.importTOML ../Cargo.toml).workspace.package) version;
  src = import ./source.nix { inherit lib; };
  cargoLock.lockFile = ../Cargo.lock;

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
    license = with lib.licenses; [
      mit
      asl20
    ];
    mainProgram = "chainsync";
    platforms = lib.platforms.linux;
  };
}
