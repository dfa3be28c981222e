//! `tidewire bench live-queries`: what an event costs that one live query looks at, beside few
//! other live queries and beside many.

use std::{
    cell::Cell,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use futures_util::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tidewire_projections::{Policy, typed};
use tidewire_protocol::frame::{Opcode, encode_masked};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedWriteHalf},
    sync::Notify,
    task::JoinSet,
    time::timeout,
};

use super::{
    crowd::{MASK, handshake, new_histogram},
    frames::first_frame,
    machine::{self, Pins, SOCKETS},
    report::{Spread, Table},
    server::{Launch, Measured},
};
use crate::config::Configured;

/// Measure what an event costs beside few live queries and beside many
///
/// Every session watches a document of its own. Events change the documents of the first few
/// sessions, one event at a time: the next one is appended when the last one's change has arrived.
/// The two servers take turns. Prints the CPU time of an event on each, and their ratio.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Sessions on the one server
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    few: u32,
    /// Sessions on the other server
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    many: u32,
    /// Events a round
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    events: u32,
    /// Rounds on each server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    launch: Launch,
}

/// Handshakes that are under way at once.
const HANDSHAKES: usize = 64;

/// How long all sessions may take to be live.
const LIVE: Duration = Duration::from_secs(300);

/// How long one change may take to arrive.
const ARRIVES: Duration = Duration::from_secs(30);

/// Events before the first round.
const WARM_UP: u32 = 500;

/// A document: what its stream's last event said.
#[derive(Debug, Serialize, Deserialize)]
struct Latest {
    n: u64,
    text: String,
}

/// The events of the benchmark.
#[derive(Debug, Deserialize)]
enum KeyEvent {
    Changed { n: u64, text: String },
}

/// What the measured server projects: a document for each stream.
///
/// # Errors
///
/// None that can be: the definition is always the same.
pub(super) fn projections() -> Result<Vec<Configured>> {
    let latest = typed::projection("latest", 1).category("key").by_stream(
        |_: Option<Latest>, event: &typed::Event<'_, KeyEvent>| {
            let KeyEvent::Changed { n, text } = &event.data;
            Some(Latest { n: *n, text: text.clone() })
        },
    )?;
    Ok(vec![Configured { projection: Arc::new(latest), policy: Policy::default() }])
}

/// What came of one round.
#[derive(Debug, Clone)]
struct Round {
    /// CPU seconds of the server, and of its threads that serve sockets.
    cpu: f64,
    sockets: f64,
    events: u32,
    latency: Histogram<u64>,
}

impl Round {
    fn micros_an_event(&self) -> f64 {
        self.cpu * 1e6 / f64::from(self.events)
    }

    fn socket_micros_an_event(&self) -> f64 {
        self.sockets * 1e6 / f64::from(self.events)
    }

    fn latency_ms(&self) -> f64 {
        self.latency.value_at_quantile(0.5) as f64 / 1e3
    }
}

/// Runs the benchmark.
///
/// # Errors
///
/// It could not be run, or a change did not arrive.
pub(super) async fn run(args: Args, pins: Pins) -> Result<()> {
    let all = u64::from(args.few) + u64::from(args.many);
    machine::check_open_files(all, u64::from(args.many) * 2)?;
    let mut few = Side::start(&args, args.few, pins).await?;
    let mut many = Side::start(&args, args.many, pins).await?;
    // The same documents change on both.
    let keys = args.few.min(args.many);
    for side in [&mut few, &mut many] {
        side.round(WARM_UP, keys).await?;
        side.rounds.clear();
    }
    for number in 0..args.rounds {
        let order = if number % 2 == 0 { [&mut few, &mut many] } else { [&mut many, &mut few] };
        for side in order {
            side.round(args.events, keys).await?;
        }
    }
    report(&args, &few.rounds, &many.rounds, &pins);
    Ok(())
}

/// A figure: its name, its key, and how it is got from a round.
type Figure = (&'static str, &'static str, fn(&Round) -> f64);

fn report(args: &Args, few: &[Round], many: &[Round], pins: &Pins) {
    let of = |rounds: &[Round], figure: fn(&Round) -> f64| Spread::of(rounds.iter().map(figure));
    let figures: [Figure; 3] = [
        ("CPU µs an event", "cpu_micros_per_event", Round::micros_an_event),
        ("  of that, sockets", "cpu_micros_per_event_sockets", Round::socket_micros_an_event),
        ("append to client, ms (p50)", "latency_p50_ms", Round::latency_ms),
    ];
    let ratio = |figure: fn(&Round) -> f64| {
        let each = many.iter().zip(few).map(|(many, few)| figure(many) / figure(few));
        let median = of(many, figure).median / of(few, figure).median;
        Spread { median, ..Spread::of(each) }
    };
    if args.json {
        let side = |rounds: &[Round]| {
            let figure =
                |(_, key, figure): &Figure| ((*key).to_owned(), of(rounds, *figure).json());
            serde_json::Value::Object(figures.iter().map(figure).collect())
        };
        let ratios = figures.iter().map(|(_, key, of)| ((*key).to_owned(), ratio(*of).json()));
        println!(
            "{}",
            json!({
                "sessions": [args.few, args.many],
                "few": side(few),
                "many": side(many),
                "ratio": serde_json::Value::Object(ratios.collect()),
            })
        );
        return;
    }
    let mut table = Table::default();
    let heading = |sessions: u32| format!("{sessions} sessions");
    table.heading("median (range)", &heading(args.few), &heading(args.many));
    for (name, _, figure) in figures {
        table.line(name, of(few, figure), Some(of(many, figure)));
    }
    table.line("ratio of CPU", ratio(Round::micros_an_event), None);
    table.print();
    println!("{}", pins.note());
}

/// A server with its sessions.
struct Side {
    server: Measured,
    writer: OwnedWriteHalf,
    arrived: Rc<Arrived>,
    /// Numbers the events.
    number: u64,
    rounds: Vec<Round>,
    _sessions: JoinSet<Result<()>>,
}

/// What has arrived.
#[derive(Debug, Default)]
struct Arrived {
    live: Cell<usize>,
    /// The last number that arrived at any session.
    number: Cell<u64>,
    news: Notify,
}

impl Side {
    async fn start(args: &Args, sessions: u32, pins: Pins) -> Result<Self> {
        let server = args.launch.start_with(&["--live-queries"], pins.server).await?;
        let address = server.child.address;
        let arrived = Rc::<Arrived>::default();
        let mut tasks = JoinSet::new();
        let opened: Vec<TcpStream> = stream::iter(0..sessions)
            .map(|session| watch(address, session))
            .buffer_unordered(HANDSHAKES)
            .try_collect()
            .await?;
        for socket in opened {
            tasks.spawn_local(read(socket, arrived.clone()));
        }
        let live = async {
            while arrived.live.get() < sessions as usize {
                arrived.news.notified().await;
            }
        };
        timeout(LIVE, live).await.context("not every session became live")?;
        let (socket, _) = handshake(address, "/ws").await?;
        let (reader, mut writer) = socket.into_split();
        tasks.spawn_local(drain(reader));
        let hello = json!({ "type": "hello", "protocol": 1 });
        writer.write_all(&framed(&hello)).await?;
        let (number, rounds) = (0, Vec::new());
        Ok(Self { server, writer, arrived, number, rounds, _sessions: tasks })
    }

    /// Appends events, each when the last one has arrived.
    async fn round(&mut self, events: u32, keys: u32) -> Result<()> {
        let before = self.server.child.cpu()?;
        let mut latency = new_histogram();
        for event in 0..events {
            self.number += 1;
            let append = json!({
                "type": "append",
                "id": self.number.to_string(),
                "stream": format!("key-{}", event % keys),
                "events": [{ "type": "Changed", "data": { "n": self.number, "text": TEXT } }],
            });
            let sent = Instant::now();
            self.writer.write_all(&framed(&append)).await?;
            let arrives = async {
                while self.arrived.number.get() < self.number {
                    self.arrived.news.notified().await;
                }
            };
            timeout(ARRIVES, arrives).await.context("a change did not arrive")?;
            latency.saturating_record(u64::try_from(sent.elapsed().as_micros())?);
        }
        let cpu = self.server.child.cpu()?.since(&before);
        let (sockets, cpu) = (cpu.kind(SOCKETS), cpu.total);
        self.rounds.push(Round { cpu, sockets, events, latency });
        Ok(())
    }
}

/// What a document has beside its number.
const TEXT: &str = "Some words, as many as a document of ordinary size has, so that what is \
    projected, kept and sent is of the size that it would have with any user of this program.";

/// Opens a session that watches its own document.
async fn watch(address: SocketAddr, session: u32) -> Result<TcpStream> {
    let (mut socket, _) = handshake(address, "/ws").await?;
    let to = json!({ "projection": "latest", "key": session.to_string() });
    let subscribe = json!({ "type": "subscribe", "sub": 1, "to": to });
    let mut hello = framed(&json!({ "type": "hello", "protocol": 1 }));
    hello.extend_from_slice(&framed(&subscribe));
    socket.write_all(&hello).await?;
    Ok(socket)
}

fn framed(message: &serde_json::Value) -> BytesMut {
    let mut out = BytesMut::new();
    encode_masked(Opcode::Text, true, message.to_string().as_bytes(), MASK, &mut out);
    out
}

/// Reads what a session is told.
async fn read(mut socket: TcpStream, arrived: Rc<Arrived>) -> Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        if socket.read_buf(&mut buffer).await? == 0 {
            bail!("the server closed a session");
        }
        while let Some((frame, length)) = first_frame(&buffer)? {
            let text = frame.payload;
            if text.starts_with(b"{\"type\":\"live\"") {
                arrived.live.set(arrived.live.get() + 1);
                arrived.news.notify_one();
            } else if text.starts_with(b"{\"type\":\"changes\"")
                && let Some(at) = memmem::find(text, b"\"n\":")
            {
                let digits = text[at + 4..].iter().take_while(|byte| byte.is_ascii_digit());
                let number = digits.fold(0, |number, byte| number * 10 + u64::from(byte - b'0'));
                arrived.number.set(number);
                arrived.news.notify_one();
            }
            drop(buffer.split_to(length));
        }
    }
}

/// Reads what nobody looks at.
async fn drain(mut socket: impl tokio::io::AsyncRead + Unpin) -> Result<()> {
    let mut buffer = vec![0; 4096];
    while socket.read(&mut buffer).await? > 0 {}
    Ok(())
}
