//! The promises by their ids, in plain language: what a reader who knows no code is told first.

/// What was promised. The ids are DESIGN.md's, and those of the runner itself.
pub(super) fn promise(id: &str) -> &'static str {
    match id {
        "S1" => "A file under its final name is always whole: nobody ever sees half of one.",
        "S2" => "Nothing appears that nobody wrote, and nothing under a name that nobody gave it.",
        "S3" => {
            "No finished upload is lost: it is on every node, was overwritten by somebody who had \
             it, or lies in an archive."
        }
        "S4" => "What was deleted does not come back, and what is there is what was made.",
        "S5" => "What was acknowledged survives a power loss.",
        "S6" => "A node never claims to have what is not durable on its disk.",
        "S7" => "The daemon touches nothing outside its share and its own directories.",
        "S8" => "Nothing is deleted everywhere because one node lost its files.",
        "S9" => {
            "Each content crosses each link once, and what the daemon writes itself is no change."
        }
        "S10" => "Every queue, batch and memory stays within its bound.",
        "L1" => "When all is healed, all nodes soon hold the same tree, and know it.",
        "L2" => "Once the nodes agree, nothing moves any more.",
        "L3" => "Nothing is left over: no files in staging, no tasks.",
        "L4" => "A death at any disk operation is recovered from.",
        "L5" => "A batch that arrives twice changes nothing.",
        "L6" => "Small files do not wait for big ones.",
        "M1" => "The same seed gives the same run.",
        "M2" => "The simulated disk and watcher behave as Linux does.",
        "M3" => "A planted bug is found.",
        "bypass" => "When a node is gone, the others reach each other around it in time.",
        "conflicts" => "There are as many conflicts as the scenario expects.",
        "daemon" => "A daemon runs until it is told to stop, and stops when it is told to.",
        "verify" => "The daemons' own comparison of the trees says what is true.",
        "warm-up" => "The links of an idle ring come up.",
        _ => "A promise of the simulation itself.",
    }
}
