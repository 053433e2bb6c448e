# The options of NixOS that the module and the tests touch; each typed, so that misuse is an error.
{
  lib,
  pkgs,
  specialArgs ? { },
}:
modules:
let
  inherit (lib) mkOption types;
  o = type: default: mkOption { inherit type default; };
  any = o (types.attrsOf types.anything) { };
  serviceValue =
    with types;
    nullOr (oneOf [
      bool
      int
      str
      path
      package
      (listOf (oneOf [
        str
        path
        package
      ]))
    ]);
  unit = types.submodule {
    options = {
      description = o types.str "";
      documentation = o (types.listOf types.str) [ ];
      enable = o types.bool true;
      wantedBy = o (types.listOf types.str) [ ];
      requiredBy = o (types.listOf types.str) [ ];
      wants = o (types.listOf types.str) [ ];
      after = o (types.listOf types.str) [ ];
      before = o (types.listOf types.str) [ ];
      requires = o (types.listOf types.str) [ ];
      partOf = o (types.listOf types.str) [ ];
      bindsTo = o (types.listOf types.str) [ ];
      conflicts = o (types.listOf types.str) [ ];
      path = o (types.listOf types.package) [ ];
      environment = o (types.attrsOf (types.nullOr types.str)) { };
      reloadTriggers = o (types.listOf types.raw) [ ];
      restartTriggers = o (types.listOf types.raw) [ ];
      restartIfChanged = o types.bool true;
      reloadIfChanged = o types.bool false;
      stopIfChanged = o types.bool true;
      startLimitIntervalSec = o types.int 10;
      startLimitBurst = o types.int 5;
      preStart = o types.lines "";
      postStart = o types.lines "";
      script = o types.lines "";
      unitConfig = o (types.attrsOf serviceValue) { };
      serviceConfig = o (types.attrsOf serviceValue) { };
      socketConfig = o (types.attrsOf serviceValue) { };
      timerConfig = o (types.attrsOf serviceValue) { };
    };
  };
  base = {
    options = {
      assertions = o (types.listOf (
        types.submodule {
          options = {
            assertion = mkOption { type = types.bool; };
            message = mkOption { type = types.str; };
          };
        }
      )) [ ];
      warnings = o (types.listOf types.str) [ ];
      systemd.services = o (types.attrsOf unit) { };
      systemd.sockets = o (types.attrsOf unit) { };
      systemd.timers = o (types.attrsOf unit) { };
      systemd.tmpfiles.rules = o (types.listOf types.str) [ ];
      systemd.tmpfiles.settings = any;
      systemd.packages = o (types.listOf types.package) [ ];
      networking.firewall = {
        enable = o types.bool true;
        allowedTCPPorts = o (types.listOf types.port) [ ];
        allowedUDPPorts = o (types.listOf types.port) [ ];
      };
      networking.hostName = o types.str "nixos";
      networking.extraHosts = o types.lines "";
      networking.useNetworkd = o types.bool false;
      users = any;
      environment.etc = any;
      environment.systemPackages = o (types.listOf types.package) [ ];
      environment.variables = any;
      virtualisation = any;
      boot = any;
      services = {
        journald = any;
        openssh = any;
        timesyncd = any;
      };
      system.stateVersion = o types.str "26.05";
      documentation = any;
      nix = any;
      meta = any;
    };
  };
  e = lib.evalModules {
    specialArgs = {
      inherit pkgs;
      modulesPath = "/none";
    }
    // specialArgs;
    modules = [ base ] ++ modules;
  };
  failed = map (a: a.message) (lib.filter (a: !a.assertion) e.config.assertions);
  value =
    v:
    if v == true then
      "true"
    else if v == false then
      "false"
    else
      toString v;
  section =
    n: s:
    "[${n}]\n"
    + lib.concatStringsSep "" (
      lib.mapAttrsToList (
        k: v:
        if v == null then
          ""
        else if lib.isList v then
          (if v == [ ] then "" else lib.concatStringsSep "" (map (x: "${k}=${value x}\n") v))
        else
          "${k}=${value v}\n"
      ) s
    );
  text =
    u:
    section "Unit" (
      {
        Description = u.description;
      }
      // lib.filterAttrs (_: v: v != [ ]) {
        After = toString u.after;
        Wants = toString u.wants;
        Requires = toString u.requires;
      }
      // u.unitConfig
    )
    + section "Service" (
      u.serviceConfig // { Environment = lib.mapAttrsToList (k: v: "\"${k}=${v}\"") u.environment; }
    )
    + section "Install" { WantedBy = toString u.wantedBy; };
in
if failed != [ ] then
  throw "failed assertions:\n- ${lib.concatStringsSep "\n- " failed}"
else
  e.config
  // {
    units = lib.mapAttrs' (
      n: u: lib.nameValuePair "${n}.service" { text = text u; }
    ) e.config.systemd.services;
  }
