//! Who may ask for what.

use serde_json::json;

use crate::made::{self, Spec};
use crate::{Served, served, served_with};
use pipe_test_support::http::ask;

fn one() -> Served {
    served(|root| drop(made::run(root, "digits/0", &Spec::default())))
}

#[test]
fn names_that_others_can_make_lead_here_are_refused() {
    let served = one();
    let with = |host: &str| ask(served.address, "GET", "/api/runs", &[("Host", host)], "").status;
    for host in ["localhost", "localhost:1", "127.0.0.1", "[::1]:80"] {
        assert_eq!(with(host), 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "0.0.0.0", ""] {
        assert_eq!(with(host), 403, "{host}");
    }
    assert_eq!(ask(served.address, "GET", "/", &[("Host", "evil.example")], "").status, 403, "not even the page");
}

#[test]
fn pages_of_elsewhere_get_nothing() {
    let served = one();
    let id = served.id("digits/0");
    let own = format!("http://{}", served.address);
    let token = format!("Bearer {}", served.token);
    for (headers, status) in [
        (vec![("Origin", own.as_str())], 200),
        (vec![("Sec-Fetch-Site", "same-origin")], 200),
        (vec![("Sec-Fetch-Site", "none")], 200),
        (vec![("Origin", "http://evil.example")], 403),
        (vec![("Origin", "null")], 403),
        (vec![("Origin", "http://127.0.0.1:1")], 403),
        (vec![("Sec-Fetch-Site", "cross-site")], 403),
        (vec![("Sec-Fetch-Site", "same-site")], 403),
    ] {
        assert_eq!(ask(served.address, "GET", "/api/runs", &headers, "").status, status, "{headers:?}");
        // The token does not help a page of elsewhere.
        let headers: Vec<(&str, &str)> = headers.into_iter().chain([("Authorization", token.as_str())]).collect();
        let answer = served.post(&format!("/api/runs/{id}/about"), &headers, &json!({ "tag": ["x"] }));
        assert_eq!(answer.status, status, "{headers:?}");
    }
    // What a form of elsewhere could send.
    let form = [("Content-Type", "text/plain"), ("Authorization", token.as_str())];
    let answer = ask(served.address, "POST", &format!("/api/runs/{id}/about"), &form, "{\"tag\":[\"y\"]}");
    assert_eq!(answer.status, 415);
}

#[test]
fn with_a_token_of_ones_own_everything_needs_it() {
    let served = served_with(Some("a-token-of-16-characters"), |root| drop(made::run(root, "a", &Spec::default())));
    for path in ["/api/runs", "/api/keys", "/api/live?table=true", "/api/compare?runs=x", "/api/nothing"] {
        let answer = served.get(path);
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.text().contains("the token is needed"));
    }
    let session = served.json("/api/session");
    assert_eq!(session, json!({ "reads": false, "writes": false, "version": env!("CARGO_PKG_VERSION"), "roots": [] }));
    assert_eq!(served.post("/api/login", &[], &json!({ "token": "another-of-16-characters" })).status, 401);
    let login = served.post("/api/login", &[], &json!({ "token": served.token }));
    let cookie = login.header("set-cookie");
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    let with = |cookie: &str| ask(served.address, "GET", "/api/runs", &[("Cookie", cookie)], "").status;
    assert_eq!(with(&format!("other=1; {pair}")), 200);
    assert_eq!(with(&format!("{pair}x")), 401);
    assert_eq!(with(&pair.replace("pipe_", "pipe_1")), 401, "that of another port");
}

#[test]
fn weak_tokens_and_taken_ports_are_refused() {
    use pipe_ui::{Server, Settings};
    let served = one();
    let settings = |port, token: Option<&str>| Settings {
        roots: vec![served.root.clone()],
        host: served.address.ip(),
        port: Some(port),
        token: token.map(str::to_owned),
        index: None,
        checker: None,
    };
    let wrong = |settings| format!("{:#}", Server::bind(settings).err().expect("refused"));
    assert_eq!(wrong(settings(0, Some("short"))), "the token needs at least 16 characters, without spaces, of ASCII");
    let taken = wrong(settings(served.address.port(), None));
    assert!(taken.starts_with(&format!("cannot listen on {}; `--port 0` takes a free one", served.address)), "{taken}");
}

#[test]
fn browsers_are_told_what_to_refuse() {
    let served = one();
    for path in ["/", "/api/runs", "/api/nothing", "/compare?runs=1", "/nothing.js"] {
        let answer = served.get(path);
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("x-frame-options"), "DENY");
    }
    assert_eq!(served.get("/api/runs").header("cache-control"), "no-store");
}
