//! The `mana-auth` binary.
fn main() {}
