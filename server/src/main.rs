//! `tidewire`: the program. One subcommand a file; this one only parses and reports.

mod append;
mod bench;
mod client;
mod config;
mod consumers;
mod database;
mod delete;
mod demo;
mod epoch;
mod erase;
mod exit;
mod flights;
mod health;
mod host;
mod import;
mod logging;
mod migrate;
mod pages;
mod parked;
mod projecting;
mod projections;
mod removal;
mod retain;
mod serve;
mod tail;
mod truncate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Your event log, in the browser, from exactly where you left off.
#[derive(Debug, Parser)]
#[command(version, after_help = exit::CODES, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(serve::Args),
    Demo(demo::Args),
    Append(append::Args),
    Import(import::Args),
    Tail(tail::Args),
    Consumers(consumers::Args),
    Parked(parked::Args),
    Projections(projections::Args),
    Truncate(truncate::Args),
    Delete(delete::Args),
    Erase(erase::Args),
    Retain(retain::Args),
    Migrate(migrate::Args),
    Epoch(epoch::Args),
    Health(health::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Serve(args) => serve::run(args),
        Verb::Demo(args) => demo::run(args),
        Verb::Append(args) => append::run(args),
        Verb::Import(args) => import::run(args),
        Verb::Tail(args) => tail::run(args),
        Verb::Consumers(args) => consumers::run(args),
        Verb::Parked(args) => parked::run(args),
        Verb::Projections(args) => projections::run(args),
        Verb::Truncate(args) => truncate::run(args),
        Verb::Delete(args) => delete::run(args),
        Verb::Erase(args) => erase::run(args),
        Verb::Retain(args) => retain::run(args),
        Verb::Migrate(args) => migrate::run(args),
        Verb::Epoch(args) => epoch::run(args),
        Verb::Health(args) => health::run(args),
        Verb::Bench(args) => bench::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidewire: {error:#}");
            ExitCode::from(exit::code_of(&error))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
