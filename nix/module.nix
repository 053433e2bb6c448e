# The NixOS module. Three hosts share one definition of `nodes` and `shares`; what differs is found from
# the host's name.
{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    literalExpression
    mkDefault
    mkEnableOption
    mkIf
    mkOption
    types
    ;

  cfg = config.services.chainsync;
  format = pkgs.formats.toml { };

  shares = lib.attrValues cfg.settings.shares;
  ownersTravel = (cfg.settings.owner or false) || lib.any (share: share.owner or false) shares;
  paths = map (share: share.path) shares;
  isBelow = directory: path: lib.hasPrefix "${directory}/" "${path}/";
  inHome = lib.any (
    path:
    lib.any (home: isBelow home path) [
      "/home"
      "/root"
      "/run/user"
    ]
  ) paths;

  # TOML has no null: what was not set is left to the daemon's default.
  withoutNulls = lib.filterAttrs (_: value: value != null);

  unchecked = format.generate "chainsync.toml" (withoutNulls cfg.settings);
  checked = pkgs.runCommand "chainsync.toml" { } ''
    ${lib.getExe cfg.package} check --without-key --config ${unchecked}
    cp ${unchecked} $out
  '';
  configFile = if cfg.checkConfig then checked else unchecked;

  node = types.submodule {
    freeformType = format.type;
    options = {
      address = mkOption {
        type = types.str;
        example = "10.0.0.1:7420";
        description = "Host and port under which the other nodes reach this one. A name is resolved at each connection.";
      };
      id = mkOption {
        type = types.strMatching "cs1[a-z0-9]+";
        example = "cs1or6vkjlrvprpboraubwnykuassbcqe3dwuwueyeti2ytreau5hga";
        description = "What `chainsync keygen` printed on this node: no secret.";
      };
    };
  };

  share = types.submodule {
    freeformType = format.type;
    options = {
      path = mkOption {
        type = types.path;
        example = "/var/www/html/images";
        description = "A directory that exists; it is never made. It belongs to `services.chainsync.user`.";
      };
      ring = mkOption {
        type = types.listOf types.str;
        default = lib.attrNames cfg.nodes;
        defaultText = literalExpression "lib.attrNames config.services.chainsync.nodes";
        description = "Nodes in the order in which changes travel, the same on all of them.";
      };
      exclude = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [
          "*.log"
          "/cache/**"
        ];
        description = "Patterns of gitignore(5), relative to the root of the share; the same on all nodes.";
      };
    };
  };
in
{
  options.services.chainsync = {
    enable = mkEnableOption "chainsync, which keeps directories identical on several servers";

    package = mkOption {
      type = types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.chainsync;
      defaultText = literalExpression "the flake's own package";
      description = "The chainsync to run.";
    };

    node = mkOption {
      type = types.str;
      default = config.networking.hostName;
      defaultText = literalExpression "config.networking.hostName";
      description = "Which of `nodes` this host is.";
    };

    nodes = mkOption {
      type = types.attrsOf node;
      default = { };
      description = "All nodes of all rings: the same on every host.";
      example = literalExpression ''
        {
          apollo = { address = "10.0.0.1:7420"; id = "cs1..."; };
          chronos = { address = "10.0.0.2:7420"; id = "cs1..."; };
          hermes = { address = "10.0.0.3:7420"; id = "cs1..."; };
        }
      '';
    };

    shares = mkOption {
      type = types.attrsOf share;
      default = { };
      description = "Directories to keep identical. Every key of a share in the configuration file may be given.";
      example = literalExpression ''{ images.path = "/var/www/html/images"; }'';
    };

    keyFile = mkOption {
      type = types.str;
      example = "/run/secrets/chainsync.key";
      description = ''
        This node's private key, made by `chainsync keygen`. systemd reads it as root and hands it to the
        daemon as a credential. Never a file of the Nix store, which everybody may read.
      '';
    };

    listenAddress = mkOption {
      type = types.str;
      default = "0.0.0.0";
      example = "[::]";
      description = "Where links of other nodes are accepted.";
    };

    port = mkOption {
      type = types.port;
      default = 7420;
      description = "TCP port on which links of other nodes are accepted.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Opens `port` to everybody. Who has no key of a configured node is refused all the same.";
    };

    user = mkOption {
      type = types.str;
      default = "chainsync";
      example = "nginx";
      description = "Owner of the shares, as which the daemon runs. Made only if it is `chainsync`.";
    };

    group = mkOption {
      type = types.str;
      default = "chainsync";
      example = "nginx";
      description = "Group as which the daemon runs. Made only if it is `chainsync`.";
    };

    checkConfig = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Lets `chainsync check` read the configuration when the system is built. To be turned off where the
        building machine cannot run programs of this host.
      '';
    };

    settings = mkOption {
      default = { };
      description = "The configuration file; what is set here wins. docs/OPERATIONS.md has all keys.";
      type = types.submodule {
        freeformType = format.type;
        options = {
          node = mkOption {
            type = types.str;
            default = cfg.node;
            defaultText = literalExpression "config.services.chainsync.node";
            description = "Name of this node.";
          };
          key = mkOption {
            type = types.str;
            default = "credential:node.key";
            description = "Where the daemon finds `keyFile`.";
          };
          state = mkOption {
            type = types.str;
            default = "/var/lib/chainsync";
            description = "Index and archive.";
          };
          listen = mkOption {
            type = types.str;
            default = "${cfg.listenAddress}:${toString cfg.port}";
            defaultText = literalExpression ''"''${listenAddress}:''${toString port}"'';
            description = "Where links of other nodes are accepted.";
          };
          nodes = mkOption {
            type = types.attrsOf node;
            default = cfg.nodes;
            defaultText = literalExpression "config.services.chainsync.nodes";
            description = "See `services.chainsync.nodes`.";
          };
          shares = mkOption {
            type = types.attrsOf share;
            default = cfg.shares;
            defaultText = literalExpression "config.services.chainsync.shares";
            description = "See `services.chainsync.shares`.";
          };
        };
      };
      example = literalExpression ''{ dead_after = "3s"; archive_age = "30d"; }'';
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.settings.nodes ? ${cfg.settings.node};
        message = "services.chainsync: `${cfg.settings.node}` is none of the nodes (${toString (lib.attrNames cfg.settings.nodes)}). Set `services.chainsync.node`, or add it to `services.chainsync.nodes`.";
      }
      {
        assertion = cfg.settings.shares != { };
        message = "services.chainsync: there is nothing to keep identical. Set `services.chainsync.shares.NAME.path`.";
      }
      {
        assertion = !lib.hasPrefix builtins.storeDir cfg.keyFile;
        message = "services.chainsync: `keyFile` is in the Nix store, where everybody may read it. Give the path as a string, of a file that is put there when the machine is set up (sops-nix, agenix, or `chainsync keygen --out`).";
      }
      {
        assertion = lib.all (share: lib.all (name: cfg.settings.nodes ? ${name}) share.ring) shares;
        message = "services.chainsync: a `ring` names a node that is not in `services.chainsync.nodes`.";
      }
      {
        assertion = lib.all (share: lib.elem cfg.settings.node share.ring) shares;
        message = "services.chainsync: `${cfg.settings.node}` is not in the `ring` of each of its shares. Add it there, or leave the share out on this host.";
      }
    ];

    environment.etc."chainsync/chainsync.toml".source = configFile;
    environment.systemPackages = [ cfg.package ];

    # A watch per directory, and room for what happens while the daemon is busy.
    boot.kernel.sysctl = {
      "fs.inotify.max_user_watches" = mkDefault 1048576;
      "fs.inotify.max_queued_events" = mkDefault 131072;
    };

    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    users.users = lib.optionalAttrs (cfg.user == "chainsync") {
      chainsync = {
        isSystemUser = true;
        inherit (cfg) group;
        description = "chainsync";
      };
    };
    users.groups = lib.optionalAttrs (cfg.group == "chainsync") { chainsync = { }; };

    systemd.services.chainsync = {
      description = "Keeps directories identical on several servers";
      documentation = [ "man:chainsync(1)" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      # A new configuration is taken in by the daemon that runs.
      reloadTriggers = [ configFile ];
      unitConfig = {
        # An unmounted share must not look like an empty one.
        RequiresMountsFor = paths;
      };
      serviceConfig = {
        Type = "notify";
        ExecStart = "${lib.getExe cfg.package} run --config /etc/chainsync/chainsync.toml";
        ExecReload = "${lib.getExe' pkgs.coreutils "kill"} -HUP $MAINPID";
        User = cfg.user;
        Group = cfg.group;
        LoadCredential = "node.key:${cfg.keyFile}";
        StateDirectory = "chainsync";
        StateDirectoryMode = "0700";
        RuntimeDirectory = "chainsync";
        Restart = "on-failure";
        RestartSec = 5;
        # 4: a guard refused to start. Somebody has to look first.
        RestartPreventExitStatus = 4;
        WatchdogSec = 60;
        LimitNOFILE = 65536;
        # As long as what is in flight may take to be finished.
        TimeoutStopSec = 45;

        # Nothing is writable but the shares and what systemd makes for the daemon.
        ProtectSystem = "strict";
        ReadWritePaths = paths;
        # A share may be in somebody's home; then the homes can be seen, and only the share written.
        ProtectHome = if inHome then "read-only" else true;
        PrivateTmp = true;
        PrivateDevices = true;
        ProtectProc = "invisible";
        # Not "pid" alone: what the daemon reads of /proc is its own status.
        ProcSubset = "pid";

        # Only for `owner = true`, which gives files away.
        AmbientCapabilities = lib.optional ownersTravel "CAP_CHOWN";
        CapabilityBoundingSet = if ownersTravel then "CAP_CHOWN" else "";
        # Other users' ids are needed to give files to them.
        PrivateUsers = !ownersTravel;
        NoNewPrivileges = true;
        # Not RestrictSUIDSGID: with it systemd forbids openat2(2), whose mode seccomp cannot see. The daemon
        # sets neither bit.
        RemoveIPC = true;
        # Modes travel with the files; this is for what is made on the way.
        UMask = "0077";

        # TCP to the other nodes, a Unix socket for commands and for systemd.
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_UNIX"
        ];
        SystemCallArchitectures = "native";
        SystemCallFilter = [
          "@system-service"
          "~@privileged @resources"
        ]
        ++ lib.optional ownersTravel "@chown";
        SystemCallErrorNumber = "EPERM";
        MemoryDenyWriteExecute = true;
        LockPersonality = true;
        RestrictNamespaces = true;
        RestrictRealtime = true;
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
      };
    };
  };
}
