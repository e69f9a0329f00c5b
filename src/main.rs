//! The command line: everything is in `cli`, one file a subcommand.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
