//! `tidewire serve`: the log over WebSocket and HTTP.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use tidewire_eventstore::plant;
use tidewire_transport::DatabaseRuntime;

use crate::{
    config::{Level, Settings},
    database::{DatabaseArgs, Purpose},
    exit::{Reason, failure},
    host::{self, Host},
    logging::{self, LogFormat},
    pages::Pages,
    projecting::Projecting,
};

/// What is logged unless told otherwise: the server's own news, not each of its threads'.
const DEFAULT_LOG: &str = "info,actix_server=warn";

/// Serve the log over WebSocket and HTTP
///
/// Settings come from a TOML file, the environment and the command line; later ones win. The
/// schema is brought up to date at the start. SIGTERM and SIGINT drain: sessions are told when to
/// come back, then the program ends.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Where to listen [env: TIDEWIRE_ADDRESS] [default: 127.0.0.1:7377]
    #[arg(long, value_name = "IP:PORT")]
    address: Option<String>,
    /// Let in only those who show this token [env: TIDEWIRE_TOKEN]
    #[arg(long)]
    token: Option<String>,
    /// Let everybody in, even on an address that others can reach [env: TIDEWIRE_INSECURE]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true,
          value_name = "BOOL")]
    insecure: Option<bool>,
    /// Threads that serve sockets [env: TIDEWIRE_WORKERS] [default: one a core]
    #[arg(long)]
    workers: Option<usize>,
    /// What to log: a level or directives [env: TIDEWIRE_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How to log [env: TIDEWIRE_LOG_FORMAT] [default: human]
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Set one of the transport's limits, such as transport.ping_interval=30000
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let plant = plant::from_environment().map_err(|error| failure(Reason::Usage, error))?;
    let settings = settings(args)?;
    logging::start(settings.log.as_deref().unwrap_or(DEFAULT_LOG), settings.log_format)?;
    if let Some(plant) = plant {
        tracing::error!(plant = plant.as_str(), "a deliberate bug is active");
    }
    refuse_strangers(settings.address, settings.token.is_some(), settings.insecure)?;
    let mut transport: tidewire_transport::Config =
        settings.transport.try_into().map_err(|error| {
            let error = error.to_string();
            let text = format!("the transport's settings are wrong: {}", error.trim_end());
            failure(Reason::Usage, text)
        })?;
    if settings.insecure {
        // Whoever lets everybody in has said so for every name, too.
        transport.hosts.push("*".to_owned());
    }
    let projections = settings.projections.build()?;
    let listener = host::bind(settings.address)?;
    let address = listener.local_addr()?;

    let (database, token, workers) = (settings.database, settings.token, settings.workers);
    host::block_on(async {
        // The store's tasks live on this runtime, not on the threads that serve sockets.
        let runtime = DatabaseRuntime::new(transport.database_threads)?;
        let name = database.to_string();
        let node = transport.node.clone();
        let (store, projecting) = runtime
            .run(async move {
                let store = database.open(Purpose::Serve).await?;
                let log = Arc::clone(&store);
                let projecting = Projecting::start(&database, log, &node, projections).await?;
                anyhow::Ok((store, projecting))
            })
            .await?;
        let pages = Pages::serve();
        let host = Host { listener, store, runtime, token, transport, workers, pages, projecting };
        host::host(host, |_| {
            println!("listening on http://{address}");
            tracing::info!(%address, database = name, "listening");
            std::future::pending()
        })
        .await
    })
}

fn settings(args: Args) -> Result<Settings> {
    let mut flags = Level {
        address: args.address,
        token: args.token,
        insecure: args.insecure,
        workers: args.workers,
        log: args.log,
        log_format: args.log_format,
        ..args.database.level()
    };
    for assignment in &args.set {
        flags.set(assignment)?;
    }
    Settings::load(args.database.config.as_deref(), flags)
}

/// Without rights of their own, clients may do anything: so others than this machine's are let in
/// only on request.
fn refuse_strangers(address: SocketAddr, has_token: bool, insecure: bool) -> Result<()> {
    if address.ip().is_loopback() || has_token || insecure {
        return Ok(());
    }
    Err(failure(
        Reason::Usage,
        format!(
            "{address} can be reached from other machines, and everybody there could read and \
             append: set --token, or --insecure if that is what you want"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::refuse_strangers;

    #[test]
    fn only_this_machine_may_come_in_without_a_token() {
        for (address, has_token, insecure, allowed) in [
            ("127.0.0.1:7377", false, false, true),
            ("[::1]:7377", false, false, true),
            ("127.9.9.9:1", false, false, true),
            ("0.0.0.0:7377", false, false, false),
            ("[::]:7377", false, false, false),
            ("192.168.1.2:7377", false, false, false),
            ("0.0.0.0:7377", true, false, true),
            ("0.0.0.0:7377", false, true, true),
        ] {
            let outcome = refuse_strangers(address.parse().unwrap(), has_token, insecure);
            assert_eq!(outcome.is_ok(), allowed, "{address} {has_token} {insecure}");
        }
    }
}
