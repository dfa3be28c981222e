//! `tidewire import`: many events from a file, one JSON object a line.

mod line;
mod sink;

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tidewire_eventstore::{AppendError, GlobalPosition};

use crate::{
    client::{ServerArgs, runtime},
    database::DatabaseArgs,
    exit::{Reason, failure},
};
use line::LINE_BYTES_MAX;
use sink::{Begun, Settling, Sink};

/// Append the events of a file, one JSON object a line
///
/// Goes to a running server (--server), or else straight into the database; a server that runs on
/// the same database notices.
///
/// A line is {"stream": …, "type": …, "data": …, "id"?, "meta"?}; what `tail --json` prints will
/// do. Lines with an id take effect once, so that an import that was cut short can be run again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file; - reads standard input
    file: PathBuf,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Runs the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let (input, bytes) = open(&args.file)?;
    let began_at = Instant::now();
    let (events, last) = runtime()?.block_on(async {
        let sink = match args.server.remote()? {
            Some(remote) => Sink::server(&remote).await?,
            None => Sink::database(&args.database.database()?).await?,
        };
        let mut import = Import::new(sink, bytes);
        let outcome = import.run(input).await;
        import.sink.close().await;
        import.progress.finish_and_clear();
        if outcome.is_err() {
            eprintln!("{} events were imported before this:", HumanCount(import.settled));
        }
        outcome.map(|()| (import.settled, import.last))
    })?;
    let seconds = began_at.elapsed().as_secs_f64();
    let rate = HumanCount((events as f64 / seconds.max(0.001)) as u64);
    let events = HumanCount(events);
    println!("{events} events in {seconds:.1} s ({rate}/s); the last position is {last}");
    Ok(())
}

fn open(file: &Path) -> Result<(Box<dyn BufRead>, Option<u64>)> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let bytes = opened.metadata().ok().filter(|meta| meta.is_file()).map(|meta| meta.len());
    Ok((Box::new(BufReader::with_capacity(1 << 20, opened)), bytes))
}

struct Import {
    sink: Sink,
    /// Lines whose append has no answer yet, with their bytes.
    pending: VecDeque<(u64, usize, Settling)>,
    pending_bytes: usize,
    settled: u64,
    last: GlobalPosition,
    progress: ProgressBar,
}

impl Import {
    fn new(sink: Sink, bytes: Option<u64>) -> Self {
        let progress = progress_bar(bytes);
        let (pending, last) = (VecDeque::new(), GlobalPosition::START);
        Self { sink, pending, pending_bytes: 0, settled: 0, last, progress }
    }

    async fn run(&mut self, mut input: Box<dyn BufRead>) -> Result<()> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read = (&mut input)
                .take(LINE_BYTES_MAX as u64 + 1)
                .read_until(b'\n', &mut line)
                .with_context(|| format!("cannot read line {number}"))?;
            if read == 0 {
                break;
            }
            if line.len() > LINE_BYTES_MAX {
                self.settle_all().await?;
                return Err(failure(
                    Reason::Failed,
                    format!("line {number} is longer than {LINE_BYTES_MAX} bytes"),
                ));
            }
            if !line.trim_ascii().is_empty() {
                self.append(number, &line).await?;
            }
            self.progress.inc(read as u64);
        }
        self.settle_all().await
    }

    async fn append(&mut self, number: u64, line: &[u8]) -> Result<()> {
        let (stream, event) = match line::parse(line) {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.settle_all().await?;
                return Err(failure(Reason::Failed, format!("line {number}: {reason}")));
            }
        };
        let room = self.sink.room();
        loop {
            while self.pending.len() >= room.appends || self.pending_bytes >= room.bytes {
                self.settle_oldest().await?;
            }
            match self.sink.begin(stream.clone(), event.clone()).await {
                Ok(Begun::Under(settling)) => {
                    self.pending.push_back((number, line.len(), settling));
                    self.pending_bytes += line.len();
                    return Ok(());
                }
                // What fills it has ours in front: there is room when they settle.
                Ok(Begun::Full) if !self.pending.is_empty() => self.settle_oldest().await?,
                Ok(Begun::Full) => {
                    return Err(AppendError::Overloaded).with_context(|| format!("line {number}"));
                }
                Err(error) => {
                    self.settle_all().await?;
                    return Err(error).with_context(|| format!("line {number}"));
                }
            }
        }
    }

    async fn settle_all(&mut self) -> Result<()> {
        while !self.pending.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    async fn settle_oldest(&mut self) -> Result<()> {
        let Some((number, bytes, settling)) = self.pending.pop_front() else { return Ok(()) };
        self.pending_bytes -= bytes;
        let position = settling.await.with_context(|| format!("line {number}"))?;
        self.settled += 1;
        self.last = self.last.max(position);
        if self.settled.is_multiple_of(256) {
            let rate = self.settled as f64 / self.progress.elapsed().as_secs_f64().max(0.001);
            let (events, rate) = (HumanCount(self.settled), HumanCount(rate as u64));
            self.progress.set_message(format!("{events} events, {rate}/s"));
        }
        Ok(())
    }
}

/// Drawn on standard error, and only if that is a terminal.
fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:32} {percent:>3}%  {msg}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}  {elapsed}"),
    };
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
