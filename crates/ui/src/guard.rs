//! Who may ask for what.
//!
//! On a loopback address anyone on the machine may read, unless a token was given; what changes something needs the token always. Elsewhere
//! everything does, but for the page itself, which asks for it. A page of elsewhere that a browser shows beside this one gets nothing: its
//! origin is another, and a name that was made to lead here (DNS rebinding) is none of the host's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as Shared};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, COOKIE, HOST, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::problem::{Answer, Problem};
use crate::state::State;

/// What the browser is to refuse, whatever comes into the page: scripts and styles but the program's own, frames, anything of elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Passes on what may be asked.
pub async fn guard(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let mut response = match check(&state, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn check(state: &State, request: &Request) -> Answer<()> {
    let headers = request.headers();
    let forbidden = |message: &str| Problem::refused(StatusCode::FORBIDDEN, message);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if state.address.ip().is_loopback() && !is_local(host) {
        return Err(forbidden("this page is of this machine only: open it as 127.0.0.1 or localhost"));
    }
    let origin = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    if origin.is_some_and(|origin| !is_own(origin, host)) {
        return Err(forbidden("a page of another origin may not ask this server"));
    }
    let path = request.uri().path();
    let api = path == "/api" || path.starts_with("/api/");
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    if api && site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err(forbidden("a page of another site may not ask this server"));
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let anyone = !api || matches!(path, "/api/session" | "/api/login") || (state.open && reads);
    if !anyone && !is_known(state, headers) {
        return Err(Problem::refused(
            StatusCode::UNAUTHORIZED,
            "the token is needed: open the address that `pipe ui` printed, with what follows its #",
        ));
    }
    Ok(())
}

/// Whether a name, with or without a port, is one of this machine's that no name server gives.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether an origin is the one that the request was made to.
fn is_own(origin: &str, host: &str) -> bool {
    let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    !host.is_empty() && named.is_some_and(|named| named.eq_ignore_ascii_case(host))
}

/// Whether whoever asks has the token: in a header, as programs send it, or in the cookie of this port.
fn is_known(state: &State, headers: &HeaderMap) -> bool {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let name = cookie_name(state);
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|all| all.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let cookie = pairs.filter(|(own, _)| *own == name).map(|(_, value)| value);
    bearer.into_iter().chain(cookie).any(|given| is_token(state, given))
}

/// Compared by hashes, so that the time it takes tells nothing.
fn is_token(state: &State, given: &str) -> bool {
    Sha256::digest(given) == Sha256::digest(&state.token)
}

/// Cookies are shared by all ports of a host: each page has its own.
fn cookie_name(state: &State) -> String {
    format!("pipe_{}", state.address.port())
}

/// What a page that was just opened wants to know: whether it may read and write.
pub async fn session(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> Json<serde_json::Value> {
    let known = is_known(&state, &headers);
    let roots: Vec<String> = state.roots.iter().map(|root| root.display().to_string()).collect();
    let roots = if known || state.open { roots } else { Vec::new() };
    Json(json!({
        "reads": known || state.open, "writes": known, "version": env!("CARGO_PKG_VERSION"), "roots": roots,
    }))
}

/// What a page sends to be known.
#[derive(Deserialize)]
pub struct Login {
    token: String,
}

/// Gives the cookie for the token.
pub async fn login(Shared(state): Shared<Arc<State>>, Json(login): Json<Login>) -> Answer<Response> {
    if !is_token(&state, &login.token) {
        return Err(Problem::refused(StatusCode::UNAUTHORIZED, "that is not the token"));
    }
    let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", cookie_name(&state), login.token);
    let cookie = HeaderValue::from_str(&cookie).map_err(|_| Problem::wrong("that is not the token"))?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_told_from_others() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:8420", "127.8.0.1", "[::1]:9", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "10.0.0.1:80", "0.0.0.0"]
        {
            assert!(!is_local(host), "{host}");
        }
        assert!(is_own("http://localhost:8420", "localhost:8420"));
        for origin in ["null", "", "http://localhost", "http://evil.example", "file://localhost:8420"] {
            assert!(!is_own(origin, "localhost:8420"), "{origin}");
        }
        assert!(!is_own("http://", ""));
    }
}
