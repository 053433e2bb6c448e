use crate::explore::{Bounds, explore};
use crate::rules::Rules;

#[test]
fn measure() {
    let get = |name: &str, default: usize| std::env::var(name).map_or(default, |it| it.parse().unwrap());
    let bounds = Bounds { nodes: get("N", 2), paths: get("P", 2), operations: get("O", 2), unpublished: get("U", 0) == 1 };
    match explore(Rules::default(), bounds) {
        Ok(explored) => println!("{bounds:?} {explored:?}"),
        Err(it) => panic!("{} {:#?}", it.violation, it.events),
    }
}
