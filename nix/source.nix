# What a build reads, and nothing else: a changed document builds nothing again.
{ lib }:
lib.fileset.toSource {
  root = ../.;
  fileset = lib.fileset.unions [
    ../Cargo.lock
    ../Cargo.toml
    ../clippy.toml
    ../rustfmt.toml
    ../bench
    ../crates
    ../scenarios
    ../sim
  ];
}
