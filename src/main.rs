//! `collimator`: arguments in, exit code out.

use std::process::ExitCode;

use collimator::{
    app,
    cli::{self, Entries},
};

fn main() -> ExitCode {
    let entries = Entries {
        serve: app::serve,
        migrate: app::migrate,
        verify: app::verify,
        import: app::import,
        export: app::export,
        keys: app::keys,
        audit: app::audit,
    };
    cli::run(std::env::args_os(), entries)
}
