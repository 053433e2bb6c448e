//! Plans: what a seed stands for, written out. A plan is a scenario whose every operation, fault and
//! knob is explicit: it is what is replayed, shrunk and committed. Seeds decay with the code that
//! draws from them, plans do not.

mod draw;
mod faults;
mod operations;

pub use draw::{NODES_MAX, Shape, draw};
