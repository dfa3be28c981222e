//! Under which names the server may be asked.
//!
//! A browser takes a page and a server for the same origin if the page's *name* is the server's. A
//! stranger's name that is made to point at this machine (DNS rebinding) would pass for that. So,
//! unless a token is asked for, the `Host` of a request has to be an IP address, `localhost`, or one
//! of [`Config::hosts`](crate::Config::hosts).

use std::net::{IpAddr, Ipv6Addr};

use actix_web::{
    HttpRequest,
    http::{StatusCode, header},
};
use tidewire_protocol::Auth;

use super::Refusal;
use crate::node::Node;

/// Refuses a request for a name that is not this server's.
///
/// # Errors
///
/// 403 `host_not_allowed`.
pub(crate) fn check(request: &HttpRequest, node: &Node) -> Result<(), Refusal> {
    if !matches!(node.session.auth, Auth::None) {
        return Ok(());
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_some_and(|host| is_own(host, &node.config.hosts)) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "host_not_allowed",
        "this server does not answer to that name; add it to `hosts` if it should",
    ))
}

fn is_own(host: &str, hosts: &[String]) -> bool {
    // The port says nothing about who asks.
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            return rest.split(']').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
        }
        None => host.split(':').next().unwrap_or_default(),
    };
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|own| own == "*" || own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::is_own;

    #[test]
    fn a_server_answers_to_addresses_and_its_own_names() {
        let hosts = ["shop.example".to_owned()];
        for (host, own) in [
            ("127.0.0.1:7377", true),
            ("192.168.1.7", true),
            ("[::1]:7377", true),
            ("localhost:7377", true),
            ("LOCALHOST", true),
            ("shop.example", true),
            ("Shop.Example:443", true),
            ("evil.example:7377", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("[evil]:7377", false),
            ("", false),
        ] {
            assert_eq!(is_own(host, &hosts), own, "{host}");
        }
        assert!(is_own("anything.example", &["*".to_owned()]));
    }
}
