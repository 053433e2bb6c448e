{
  system ? "x86_64-linux",
  overlays ? [ ],
  ...
}:
let
  lib = import ./lib.nix;
  drv =
    a:
    derivation (
      {
        inherit system;
        builder = "/bin/sh";
        args = [
          "-c"
          "echo stand-in > $out"
        ];
      }
      // lib.filterAttrs (
        n: _v:
        lib.elem n [
          "name"
          "pname"
          "version"
          "src"
          "text"
        ]
      ) ({ name = "${a.pname or "x"}-${a.version or "0"}"; } // a)
    )
    // {
      pname = a.pname or a.name;
      meta = a.meta or { };
      passthru = a.passthru or { };
    };
  stub =
    n:
    drv {
      pname = n;
      name = n;
      meta.mainProgram = n;
    };
  tomlValue =
    with lib.types;
    let
      v = nullOr (oneOf [
        bool
        int
        float
        str
        path
        (attrsOf v)
        (listOf v)
      ]);
    in
    v;
  base =
    final:
    lib.genAttrs [
      "bash"
      "coreutils"
      "cargo"
      "rustc"
      "clippy"
      "rustfmt"
      "rust-analyzer"
      "nixfmt"
      "nixfmt-tree"
      "nixfmt-rfc-style"
      "statix"
      "deadnix"
      "python3"
      "jq"
      "openssl"
      "curl"
      "qemu"
      "pkg-config"
      "nftables"
    ] stub
    // {
      inherit lib system;
      path = ./.;
      stdenv = {
        hostPlatform = {
          inherit system;
          isLinux = true;
          isDarwin = false;
          isx86_64 = true;
        };
        isLinux = true;
        mkDerivation = drv;
      };
      stdenvNoCC = final.stdenv;
      callPackage =
        f: a:
        let
          g = if lib.isString f || builtins.isPath f then import f else f;
        in
        g (builtins.intersectAttrs (builtins.functionArgs g) final // a);
      rustPlatform.buildRustPackage =
        a:
        assert a ? cargoLock.lockFile -> builtins.pathExists a.cargoLock.lockFile;
        drv ({ name = "${a.pname}-${a.version}"; } // a) // { inherit (a) src; };
      mkShell = _a: drv { name = "shell"; };
      mkShellNoCC = final.mkShell;
      writeText = name: text: drv { inherit name text; };
      writeShellScriptBin =
        name: text:
        drv {
          inherit name text;
          meta.mainProgram = name;
        };
      writeShellApplication = { name, text, ... }: final.writeShellScriptBin name text;
      runCommand =
        name: _: text:
        drv { inherit name text; };
      formats = lib.genAttrs [ "toml" "json" ] (
        _: _: {
          type = tomlValue;
          generate =
            name: v:
            drv {
              inherit name;
              text = builtins.toJSON v;
            };
        }
      );
      testers.runNixOSTest =
        t:
        let
          m = lib.evalModules {
            specialArgs = {
              inherit lib;
              pkgs = final;
            };
            modules = [
              (if builtins.isPath t then import t else t)
              {
                options =
                  with lib;
                  let
                    o = type: default: mkOption { inherit type default; };
                  in
                  {
                    name = mkOption { type = types.strMatching "[A-Za-z0-9-]+"; };
                    nodes = o (types.attrsOf types.deferredModule) { };
                    containers = o (types.attrsOf types.deferredModule) { };
                    defaults = o types.deferredModule { };
                    globalTimeout = o types.ints.positive 3600;
                    testScript = o types.raw "";
                    skipLint = o types.bool false;
                    skipTypeCheck = o types.bool false;
                    meta = o (types.attrsOf types.anything) { };
                    extraPythonPackages = o types.raw null;
                    node.specialArgs = o (types.attrsOf types.raw) { };
                    interactive = o types.deferredModule { };
                    hostPkgs = o types.raw null;
                    passthru = o (types.attrsOf types.raw) { };
                  };
              }
            ];
          };
          c = m.config;
          nodes = lib.mapAttrs (
            name: n:
            import ./nixos.nix
              {
                inherit lib;
                pkgs = final;
                specialArgs = c.node.specialArgs // {
                  inherit name nodes;
                };
              }
              [
                c.defaults
                n
                { networking.hostName = lib.mkDefault name; }
              ]
          ) (c.nodes // c.containers);
          script = if builtins.isFunction c.testScript then c.testScript { inherit nodes; } else c.testScript;
          # evaluated with the test, so that an error in any node is an error of the check
          all = builtins.toJSON {
            inherit script;
            units = lib.mapAttrs (_: n: lib.mapAttrs (_: u: u.text) n.units) nodes;
            ports = lib.mapAttrs (_: n: n.networking.firewall.allowedTCPPorts) nodes;
            users = lib.mapAttrs (_: n: n.users) nodes;
          };
        in
        drv {
          name = "vm-test-run-${c.name}";
          text = all;
        }
        // {
          inherit nodes;
          config = c // {
            testScriptString = script;
          };
          driver = stub "driver";
          driverInteractive = stub "driver";
        };
    };
  fix =
    f:
    let
      x = f x;
    in
    x;
in
fix (final: lib.foldl' (p: o: p // o final p) (base final) overlays)
