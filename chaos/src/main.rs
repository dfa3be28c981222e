//! Breaks a running Tidewire from a seed, and checks what its clients were told and saw.
//!
//! It starts real servers, a private PostgreSQL, and real clients that reach the servers through a
//! proxy. Writers append known content, readers of every kind read it; meanwhile servers and the
//! database are killed, frozen and cut off, connections are cut, stalled and swallowed, clients
//! freeze and crash. After each storm of faults everything has to come to rest within a bound, and
//! what everybody was told and saw is held against the log. See `docs/chaos.md`.

mod audience;
mod calm;
mod consumer;
mod content;
mod fault;
mod http;
mod inject;
mod interest;
mod journal;
mod ledger;
mod log;
mod options;
mod postgres;
mod process;
mod projection;
mod proxy;
mod random;
mod reader;
mod report;
mod server;
mod session;
mod stop;
mod storm;
mod world;
mod writer;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};
use clap::Parser;

use options::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

#[tokio::main]
async fn run(options: Options) -> Result<ExitCode> {
    if options.list_plants {
        print!("{}", options::PLANTS);
        return Ok(ExitCode::SUCCESS);
    }
    let program = options.program()?;
    if let Some(plant) = &options.plant
        && !server::knows_plants(&program).await?
    {
        let shown = program.display();
        bail!(
            "{shown} has no plants in it, so {plant} would do nothing: build it with --features plant"
        );
    }
    let began_at = Instant::now();
    stop::install()?;
    let mut reports = Vec::new();
    for (shape, faults) in options.worlds() {
        let run = storm::Run {
            shape,
            faults,
            seed: options.seed,
            program: &program,
            plant: options.plant.as_deref(),
            with_consumers: !options.no_consumers,
            until: began_at + options.within(),
        };
        let report = storm::run(&run).await?;
        let clean = report.is_clean();
        reports.push(report);
        if !clean {
            break;
        }
    }
    for report in &reports {
        report.print();
    }
    let clean = reports.iter().all(report::Report::is_clean);
    let injected: u64 = reports.iter().map(report::Report::injected).sum();
    println!(
        "\n{}: {injected} faults, seed {}, {:.0} s",
        if clean { "nothing wrong" } else { "FAILED" },
        options.seed,
        began_at.elapsed().as_secs_f64()
    );
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
