//! The `pipe` program: arguments only.

use std::process::ExitCode;

fn main() -> ExitCode {
    pipe::cli::main()
}
