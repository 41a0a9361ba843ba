//! Set-up, tests and installation of pipe.
fn main() {}
