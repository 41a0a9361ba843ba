//! The `pipe` program: arguments only.
fn main() {}
