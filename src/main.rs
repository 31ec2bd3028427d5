//! `collimator`: arguments in, exit code out.

use std::process::ExitCode;

use collimator::cli::{self, Entries};

fn main() -> ExitCode {
    cli::run(
        std::env::args_os(),
        Entries {
            serve: |_| anyhow::bail!("this build has no server"),
            migrate: |_| anyhow::bail!("this build has no index"),
        },
    )
}
