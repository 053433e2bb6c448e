# A small stand-in for the part of nixpkgs' lib that a service module and its tests use.
# It lets CI without nixpkgs evaluate flake.nix, the module and every scenario's nodes.
let
  inherit (builtins)
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elem
    filter
    foldl'
    functionArgs
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isPath
    isString
    length
    listToAttrs
    map
    mapAttrs
    match
    stringLength
    substring
    tail
    toJSON
    typeOf
    ;
  show = concatStringsSep ".";
  isType = t: v: isAttrs v && (v._type or null) == t;

  # properties
  mkIf = cond: content: {
    _type = "if";
    inherit cond content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  discharge =
    d:
    if isType "if" d then
      (if d.cond then discharge d.content else [ ])
    else if isType "merge" d then
      concatMap discharge d.contents
    else
      [ d ];
  prio = d: if isType "override" d then d.priority else 100;
  strip = d: if isType "override" d then d.content else d;
  winners =
    ds:
    let
      best = foldl' (a: d: if prio d < a then prio d else a) 9999 ds;
    in
    map strip (filter (d: prio d == best) ds);
  # a set of definitions with its mkIf/mkMerge/mkOverride moved down to the attributes, conditions unread
  pushDown =
    d:
    if isType "if" d then
      map (mapAttrs (_: mkIf d.cond)) (pushDown d.content)
    else if isType "merge" d then
      concatMap pushDown d.contents
    else if isType "override" d then
      map (mapAttrs (_: mkOverride d.priority)) (pushDown d.content)
    else
      [ d ];

  # types
  mk = name: check: merge: {
    _type = "type";
    inherit name check merge;
  };
  one =
    name: check:
    mk name check (
      loc: ds:
      if length ds == 1 || foldl' (a: d: a && d == head ds) true ds then
        head ds
      else
        throw "option `${show loc}' has conflicting values: ${toJSON ds}"
    );
  checked =
    t: loc: ds:
    let
      bad = filter (d: !t.check d) ds;
    in
    if bad != [ ] then
      throw "a value of option `${show loc}' is not of type ${t.name}: it is a ${typeOf (head bad)}"
    else
      t.merge loc ds;
  # the definitions of one option, with mkIf/mkMerge/mkDefault/mkForce taken out
  resolve =
    t: loc: raw:
    checked t loc (winners (concatMap discharge raw));
  types = rec {
    bool = one "boolean" isBool;
    int = one "integer" isInt;
    float = one "float" isFloat;
    number = either int float;
    str = one "string" isString;
    singleLineStr = str;
    nonEmptyStr = one "non-empty string" (v: isString v && v != "");
    lines = mk "lines" isString (_: concatStringsSep "\n");
    path = one "absolute path" (v: isPath v || (isString v && substring 0 1 v == "/") || v ? outPath);
    package = one "package" (v: isAttrs v && (v.type or "") == "derivation");
    port = ints.between 0 65535;
    ints = {
      between = a: b: one "integer from ${toString a} to ${toString b}" (v: isInt v && v >= a && v <= b);
      positive = one "positive integer" (v: isInt v && v > 0);
      unsigned = one "unsigned integer" (v: isInt v && v >= 0);
    };
    enum = l: one "one of ${toJSON l}" (v: elem v l);
    strMatching = re: one "string matching ${re}" (v: isString v && match re v != null);
    raw = one "raw value" (_: true);
    unspecified = anything;
    anything = mk "anything" (_: true) (
      loc: ds:
      if length ds == 1 && !isAttrs (head ds) then
        head ds
      else if filter (d: !isAttrs d || d ? outPath) ds == [ ] then
        (attrsOf anything).merge loc ds
      else if filter (d: !isList d) ds == [ ] then
        concatLists ds
      else
        raw.merge loc ds
    );
    nullOr =
      t:
      mk "null or ${t.name}" (v: v == null || t.check v) (
        loc: ds: if filter (d: d != null) ds == [ ] then null else t.merge loc (filter (d: d != null) ds)
      );
    either =
      a: b:
      mk "${a.name} or ${b.name}" (v: a.check v || b.check v) (
        loc: ds: if filter (d: !a.check d) ds == [ ] then a.merge loc ds else b.merge loc ds
      );
    oneOf = ts: foldl' either (head ts) (tail ts);
    listOf =
      t:
      mk "list of ${t.name}" isList (
        loc: ds:
        concatLists (
          map (d: map (e: resolve t (loc ++ [ "*" ]) [ e ]) (filter (e: discharge e != [ ]) d)) ds
        )
      );
    attrsOf =
      t:
      mk "attributes of ${t.name}" isAttrs (
        loc: ds:
        let
          live = n: concatMap (d: if d ? ${n} then discharge d.${n} else [ ]) ds;
        in
        mapAttrs (n: _: resolve t (loc ++ [ n ]) (live n)) (
          filterAttrs (n: _: live n != [ ]) (foldl' (a: d: a // d) { } ds)
        )
      );
    lazyAttrsOf = attrsOf;
    functionTo = _: raw;
    deferredModule = mk "module" (_: true) (_: ds: { imports = ds; });
    submodule = m: submoduleWith { modules = if isList m then m else [ m ]; };
    submoduleWith =
      {
        modules,
        specialArgs ? { },
        ...
      }:
      mk "submodule" (v: isAttrs v || isFunction v || isPath v) (
        loc: ds:
        (evalModules {
          prefix = loc;
          specialArgs = {
            name = foldl' (_: x: x) "" loc;
          }
          // specialArgs;
          modules = modules ++ map (d: if isAttrs d then { config = d; } else d) ds;
        }).config
      );
  };
  filterAttrs =
    f: s:
    listToAttrs (
      concatMap (
        n:
        if f n s.${n} then
          [
            {
              name = n;
              value = s.${n};
            }
          ]
        else
          [ ]
      ) (attrNames s)
    );

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      args = {
        inherit lib config options;
      }
      // specialArgs;
      load =
        m:
        let
          v = if isPath m || isString m then import m else m;
          f =
            if isFunction v then
              v (
                let
                  w = functionArgs v;
                in
                if w == { } then
                  args
                else
                  mapAttrs (
                    n: _: args.${n} or (config._module.args.${n} or (throw "module argument `${n}' is not known"))
                  ) w
              )
            else
              v;
        in
        [
          {
            options = f.options or { };
            freeform = f.freeformType or (f.config._module.freeformType or null);
            config =
              if f ? config then
                f.config
              else
                removeAttrs f [
                  "options"
                  "imports"
                  "meta"
                  "key"
                  "_file"
                  "freeformType"
                  "disabledModules"
                ];
          }
        ]
        ++ concatMap load (f.imports or [ ]);
      all = concatMap load modules;
      isOpt = isType "option";
      merged =
        trees:
        let
          ns = attrNames (foldl' (a: t: a // t) { } trees);
        in
        listToAttrs (
          map (
            n:
            let
              sub = concatMap (t: if t ? ${n} then [ t.${n} ] else [ ]) trees;
            in
            {
              name = n;
              value = if isOpt (head sub) then head sub else merged sub;
            }
          ) ns
        );
      options = merged (map (m: m.options) all);
      freeform = foldl' (a: m: if m.freeform != null then m.freeform else a) null all;
      walk =
        loc: opts: free: defs:
        let
          ds = concatMap pushDown defs;
          known = mapAttrs (
            n: o:
            let
              raw = concatMap (d: if d ? ${n} then [ d.${n} ] else [ ]) ds;
              l = loc ++ [ n ];
            in
            if isOpt o then
              let
                live = concatMap discharge raw;
                t = o.type or types.anything;
                v =
                  if live == [ ] then
                    (
                      if o ? default then
                        resolve t l [ o.default ]
                      else
                        throw "option `${show l}' is used but not defined"
                    )
                  else
                    resolve t l (live ++ (if o ? default then [ (mkOverride 1500 o.default) ] else [ ]));
              in
              (o.apply or (x: x)) v
            else
              walk l o free raw
          ) opts;
          extra = foldl' (a: d: a // removeAttrs d (attrNames opts ++ [ "_module" ])) { } ds;
        in
        if extra == { } then
          known
        else if free != null then
          known // (free.merge loc (map (d: removeAttrs d (attrNames opts ++ [ "_module" ])) ds))
        else
          throw "option `${show (loc ++ [ (head (attrNames extra)) ])}' does not exist";
      config = walk prefix options freeform (map (m: m.config) all);
    in
    {
      inherit config options;
    };

  lib = rec {
    inherit
      types
      evalModules
      mkIf
      mkMerge
      mkOverride
      filterAttrs
      ;
    inherit (builtins)
      attrNames
      attrValues
      map
      mapAttrs
      filter
      head
      tail
      elem
      length
      readFile
      toJSON
      fromTOML
      concatLists
      concatMap
      isString
      isList
      isAttrs
      listToAttrs
      foldl'
      concatStringsSep
      any
      all
      genList
      removeAttrs
      replaceStrings
      ;
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;
    mkBefore = x: x;
    mkAfter = x: x;
    mkOrder = _: x: x;
    mkOption = a: a // { _type = "option"; };
    mkEnableOption =
      d:
      mkOption {
        type = types.bool;
        default = false;
        description = "Whether to enable ${d}.";
      };
    mkPackageOption =
      pkgs: name: _a:
      mkOption {
        type = types.package;
        default = pkgs.${name};
        description = name;
      };
    literalExpression = text: {
      _type = "literalExpression";
      inherit text;
    };
    literalMD = literalExpression;
    nameValuePair = name: value: { inherit name value; };
    genAttrs = ns: f: listToAttrs (map (n: nameValuePair n (f n)) ns);
    mapAttrs' = f: s: listToAttrs (map (n: f n s.${n}) (attrNames s));
    mapAttrsToList = f: s: map (n: f n s.${n}) (attrNames s);
    optional = c: x: if c then [ x ] else [ ];
    optionals = c: x: if c then x else [ ];
    optionalString = c: x: if c then x else "";
    optionalAttrs = c: x: if c then x else { };
    concatMapStringsSep =
      s: f: l:
      concatStringsSep s (map f l);
    remove = e: filter (x: x != e);
    subtractLists = a: filter (x: !elem x a);
    imap0 = f: l: genList (i: f i (builtins.elemAt l i)) (length l);
    imap1 = f: imap0 (i: f (i + 1));
    hasPrefix = p: s: substring 0 (stringLength p) s == p;
    hasSuffix =
      x: s:
      let
        n = stringLength s - stringLength x;
      in
      n >= 0 && substring n (-1) s == x;
    removeSuffix = x: s: if hasSuffix x s then substring 0 (stringLength s - stringLength x) s else s;
    removePrefix = x: s: if hasPrefix x s then substring (stringLength x) (-1) s else s;
    recursiveUpdate =
      a: b:
      a
      // mapAttrs (n: v: if isAttrs v && isAttrs (a.${n} or null) then recursiveUpdate a.${n} v else v) b;
    importTOML = p: builtins.fromTOML (readFile p);
    importJSON = p: builtins.fromJSON (readFile p);
    getExe = p: "${p}/bin/${p.meta.mainProgram or p.pname}";
    getExe' = p: n: "${p}/bin/${n}";
    isStorePath = p: hasPrefix "/nix/store/" (toString p);
    escapeShellArg = s: "'${replaceStrings [ "'" ] [ "'\\''" ] (toString s)}'";
    escapeShellArgs = concatMapStringsSep " " escapeShellArg;
    licenses = genAttrs [ "mit" "asl20" "agpl3Plus" "gpl3Plus" "bsd3" ] (n: {
      shortName = n;
    });
    platforms = {
      linux = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      all = platforms.linux;
      unix = platforms.linux;
    };
    systems.flakeExposed = platforms.linux;
    modules.importApply = f: a: import f a;
    maintainers = { };
    fileset = {
      unions = l: l;
      toSource =
        { root, fileset }:
        assert all (p: builtins.pathExists p || throw "fileset: ${toString p} does not exist") fileset;
        let
          within = above: path: path == above || hasPrefix (above + "/") path;
        in
        builtins.path {
          path = root;
          name = "source";
          filter =
            path: _: any (one: within (toString one) path || within path (toString one)) (map toString fileset);
        };
      maybeMissing = p: p;
    };
    generators.toKeyValue = _: s: concatStringsSep "" (mapAttrsToList (n: v: "${n}=${toString v}\n") s);
    warn = m: v: builtins.trace m v;
    warnIf =
      c: m: v:
      if c then warn m v else v;
    assertMsg = c: m: c || throw m;
    throwIf =
      c: m: v:
      if c then throw m else v;
    throwIfNot = c: throwIf (!c);
  };
in
lib
