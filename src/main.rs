//! The program `pgaad`: see `src/command`.

fn main() -> std::process::ExitCode {
    pgaad::command::main()
}
