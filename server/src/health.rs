//! `tidewire health`: asks a server whether it is ready. For container health checks.

use std::time::Duration;

use anyhow::Result;

use crate::{
    client::{Remote, runtime},
    exit::{Reason, failure},
};

/// Ask a server whether it is ready; the exit status is 0 if so, 4 if not
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server
    #[arg(default_value = "http://127.0.0.1:7377")]
    url: String,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 5)]
    timeout: u64,
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let remote = Remote::new(&args.url, None)?;
    let status = runtime()?
        .block_on(remote.get_status("/readyz", Duration::from_secs(args.timeout.max(1))))?;
    if status.is_success() {
        println!("ready");
        Ok(())
    } else {
        Err(failure(Reason::Unavailable, format!("{} is not ready ({status})", args.url)))
    }
}
