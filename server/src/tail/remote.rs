//! Follows a running server. A connection that is lost is made again, and nothing is missed.

use std::{iter, time::Duration};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use tidewire_client::{Client, ClientConfig, Delivery, Notice, SubscribeOptions};
use tidewire_eventstore::Target;

use super::{
    After, Query,
    output::{More, Output},
};
use crate::{
    client::Remote,
    exit::{failure, reason_of_code},
};

/// How long the server may take to answer at the start.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Prints until the end of the log, for ever, or until enough was printed.
pub(super) async fn run(remote: &Remote, query: &Query, output: &mut Output) -> Result<()> {
    // A server that was never there is an error; one that goes away later is waited for.
    remote.get_status("/healthz", ANSWER_WITHIN).await?;
    let config = ClientConfig {
        token: remote.token().map(str::to_owned),
        name: Some("tidewire tail".to_owned()),
        ..ClientConfig::default()
    };
    let client = Client::connect(&remote.socket_url()?, config)?;
    client.connected().await.context("the server does not let us in")?;
    let to = match &query.target {
        Target::All => tidewire_client::Target::All,
        Target::Category(category) => tidewire_client::Target::Category(category.clone()),
        Target::Stream(stream) => tidewire_client::Target::Stream(stream.clone()),
    };
    let after = match query.after {
        After::Start => tidewire_client::After::Start,
        After::End => tidewire_client::After::End,
        After::Position(position) => tidewire_client::After::Position(position),
    };
    let mut deliveries = client.subscribe(SubscribeOptions::new(to, after)).await?;
    while let Some(delivery) = deliveries.next().await {
        match delivery.map_err(ended)? {
            Delivery::Event(event) if query.matches(&event) => {
                if output.print(iter::once(&event))? == More::Enough {
                    break;
                }
            }
            Delivery::Notice(Notice::Live(_)) if !query.follow => break,
            Delivery::Notice(Notice::Reset(_)) => {
                eprintln!("the log is another one than before: from its start");
            }
            Delivery::Event(_) | Delivery::Notice(_) => {}
        }
    }
    client.close().await;
    Ok(())
}

fn ended(ended: tidewire_client::SubscriptionEnded) -> anyhow::Error {
    match &ended {
        tidewire_client::SubscriptionEnded::Refused(error) => {
            failure(reason_of_code(&error.code, error.retryable), ended.to_string())
        }
        _ => ended.into(),
    }
}
