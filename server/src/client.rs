//! A running server, reached over HTTP or its socket.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use tidewire_client::{Client, ClientConfig, ErrorBody};

use crate::exit::{Reason, failure, reason_of_code};

/// How long a server may take to answer.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A server's address and what it takes to be let in.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    url: Url,
    token: Option<String>,
    http: reqwest::Client,
}

/// The body of a refusal, `{"error": {...}}`.
#[derive(Debug, Deserialize)]
struct Refusal {
    error: RefusalError,
}

#[derive(Debug, Deserialize)]
struct RefusalError {
    code: String,
    message: String,
    #[serde(default)]
    retryable: bool,
}

impl Remote {
    /// A server by its URL, such as `http://127.0.0.1:7377`.
    pub(crate) fn new(url: &str, token: Option<String>) -> Result<Self> {
        let usage = || {
            failure(
                Reason::Usage,
                format!("{url:?} is not a server; it should look like http://127.0.0.1:7377"),
            )
        };
        let parsed = Url::parse(url).map_err(|_| usage())?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
            return Err(usage());
        }
        // Installing fails only where one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_WITHIN);
        if parsed.scheme() == "http" {
            // A container without any certificates can still ask its own server.
            http = http.tls_certs_only([]);
        }
        let http = http.build().context("cannot prepare an HTTP client")?;
        Ok(Self { url: parsed, token, http })
    }

    /// The status of a GET.
    pub(crate) async fn get_status(&self, path: &str, within: Duration) -> Result<StatusCode> {
        let url = self.path(&[path.trim_start_matches('/')])?;
        let request = self.http.request(Method::GET, url).timeout(within);
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        Ok(answer.status())
    }

    /// POSTs JSON to a path made of `segments`, and returns the answer's JSON.
    pub(crate) async fn post(&self, segments: &[&str], body: String) -> Result<Value> {
        self.ask(Method::POST, segments, None, Some(body), ANSWER_WITHIN).await
    }

    /// GETs a path made of `segments`, with a query, and returns the answer's JSON.
    pub(crate) async fn get(&self, segments: &[&str], query: &[(&str, String)]) -> Result<Value> {
        self.get_within(segments, query, ANSWER_WITHIN).await
    }

    /// The same, of a server that may take longer to answer.
    pub(crate) async fn get_within(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
        within: Duration,
    ) -> Result<Value> {
        let mut url = self.path(segments)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        json(self.send(Method::GET, url, None, within).await?).await
    }

    /// DELETEs a path made of `segments`.
    pub(crate) async fn delete(&self, segments: &[&str]) -> Result<()> {
        let url = self.path(segments)?;
        self.send(Method::DELETE, url, None, ANSWER_WITHIN).await.map(drop)
    }

    /// Sends a request to a path made of `segments`, with JSON or without, and returns the answer's
    /// JSON.
    pub(crate) async fn ask(
        &self,
        method: Method,
        segments: &[&str],
        query: Option<&str>,
        body: Option<String>,
        within: Duration,
    ) -> Result<Value> {
        let mut url = self.path(segments)?;
        url.set_query(query);
        json(self.send(method, url, body, within).await?).await
    }

    /// The answer to a request, if it is a success.
    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<String>,
        within: Duration,
    ) -> Result<Response> {
        let mut request = self.http.request(method, url).timeout(within);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(answer).await) }
    }

    /// A client of the server's socket that was let in; `verb` is its name in the list of
    /// sessions. A server that was never there is an error; one that goes away later is waited
    /// for, as `config` says.
    pub(crate) async fn connect(&self, verb: &str, config: ClientConfig) -> Result<Client> {
        self.get_status("/healthz", ANSWER_WITHIN).await?;
        let config = ClientConfig {
            token: self.token.clone(),
            name: Some(format!("tidewire {verb}")),
            ..config
        };
        let mut url = self.path(&["ws"])?;
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        url.set_scheme(scheme).ok().context("the URL cannot name a socket")?;
        let client = Client::connect(url.as_str(), config)?;
        client.connected().await.context("the server does not let us in")?;
        Ok(client)
    }

    fn path(&self, segments: &[&str]) -> Result<Url> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .ok()
            .context("the URL cannot have a path")?
            .pop_if_empty()
            .extend(segments);
        Ok(url)
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        let why = if error.is_timeout() {
            "it does not answer"
        } else if error.is_connect() {
            "nobody listens there"
        } else {
            "the connection broke"
        };
        let text = format!("cannot reach {}: {why}; is `tidewire serve` running?", self.url);
        failure(Reason::Unavailable, text)
    }
}

async fn json(answer: Response) -> Result<Value> {
    answer.json().await.context("the server's answer is not JSON")
}

async fn refusal(answer: Response) -> anyhow::Error {
    let status = answer.status();
    if status == StatusCode::UNAUTHORIZED {
        return failure(Reason::Failed, "the server wants a token: pass --token");
    }
    match answer.json::<Refusal>().await {
        Ok(Refusal { error }) => failure(
            reason_of_code(&error.code, error.retryable),
            format!("{} ({})", error.message, error.code),
        ),
        Err(_) => failure(Reason::Failed, format!("the server answered {status}")),
    }
}

/// What a refusal on the socket means for the exit status.
pub(crate) fn refused(error: &ErrorBody) -> anyhow::Error {
    let text = format!("{} ({})", error.message, error.code);
    failure(reason_of_code(&error.code, error.retryable), text)
}

/// A runtime for a verb that talks to a server or a database.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("tidewire-database")
        .enable_all()
        .build()
        .context("cannot start a runtime")
}

/// The options that name a running server.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArgs {
    /// Talk to this server, such as http://127.0.0.1:7377, instead of the database
    #[arg(long, value_name = "URL",
          conflicts_with_all = ["database", "database_url", "listen_url", "no_listen"])]
    server: Option<String>,
    /// The server's token [env: TIDEWIRE_TOKEN]
    #[arg(long, requires = "server")]
    token: Option<String>,
}

impl ServerArgs {
    /// The server, if one was named.
    pub(crate) fn remote(&self) -> Result<Option<Remote>> {
        let from_environment =
            || std::env::var("TIDEWIRE_TOKEN").ok().filter(|token| !token.is_empty());
        self.server
            .as_deref()
            .map(|url| Remote::new(url, self.token.clone().or_else(from_environment)))
            .transpose()
    }
}
