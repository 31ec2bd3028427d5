//! `collimator`: arguments in, exit code out.

use std::process::ExitCode;

use collimator::{
    app,
    cli::{self, Entries},
};

fn main() -> ExitCode {
    cli::run(std::env::args_os(), Entries { serve: app::serve, migrate: app::migrate })
}
