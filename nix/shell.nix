# What `ci/test` and the Nix check need.
{
  mkShell,
  cargo,
  clippy,
  deadnix,
  nixfmt,
  rust-analyzer,
  rustc,
  rustfmt,
}:
mkShell {
  packages = [
    cargo
    clippy
    deadnix
    nixfmt
    rust-analyzer
    rustc
    rustfmt
  ];
}
