//! `tidewire`: the program. One subcommand a file; this one only parses and reports.

// Some of what follows is for verbs that come with the transport.
#![allow(dead_code, unused_imports)]

mod append;
mod client;
mod config;
mod database;
mod epoch;
mod exit;
mod flights;
mod import;
mod logging;
mod migrate;
mod tail;

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
    Append(append::Args),
    Import(import::Args),
    Tail(tail::Args),
    Migrate(migrate::Args),
    Epoch(epoch::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Append(args) => append::run(args),
        Verb::Import(args) => import::run(args),
        Verb::Tail(args) => tail::run(args),
        Verb::Migrate(args) => migrate::run(args),
        Verb::Epoch(args) => epoch::run(args),
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
