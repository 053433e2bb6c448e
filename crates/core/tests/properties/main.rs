//! Property tests of the pure rules, one subject a file.

mod change;
mod decide;
mod generate;
mod gossip;
mod hints;
mod merge;
mod projection;
mod record;
mod vectors;
mod wire;
