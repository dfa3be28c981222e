//! `tidewire migrate`: brings the database's schema up to date, and does nothing else.

use anyhow::Result;

use crate::{
    client::runtime,
    database::{DatabaseArgs, Purpose},
};

/// Bring the schema of the database up to date
///
/// `serve` does the same when it starts; this is for those who deploy in two steps.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let database = args.database.database()?;
    runtime()?.block_on(async {
        let store = database.open(Purpose::Visit).await?;
        let head = store.head().await;
        store.close().await;
        println!("{database} is up to date; its last position is {}", head?.position);
        Ok(())
    })
}
