//! Requests to a tracker's server.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use ureq::http::{Request, Response};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{AsSendBody, Body};

/// What one request may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Answers are read so far.
const ANSWER: u64 = 16 << 20;
/// So much of a refusal is told.
const TOLD: usize = 300;

/// Why a request failed.
#[derive(Debug)]
pub enum Failure {
    /// It may go well later: there is no connection, or the server is in trouble.
    Passing(anyhow::Error),
    /// The server does not want it, with the status: it would refuse it again.
    Refused(u16, anyhow::Error),
}

impl Failure {
    /// What went wrong.
    pub fn error(&self) -> &anyhow::Error {
        let (Failure::Passing(error) | Failure::Refused(_, error)) = self;
        error
    }
}

impl From<anyhow::Error> for Failure {
    /// Something of this machine, such as a file that cannot be read.
    fn from(error: anyhow::Error) -> Failure {
        Failure::Passing(error)
    }
}

/// A connection, and what each request carries.
pub struct Http {
    agent: ureq::Agent,
    /// The server's address without a slash at the end.
    pub base: String,
    /// `Authorization`, where the server wants one.
    pub authorization: Option<String>,
}

impl Http {
    /// To the server at this address.
    pub fn to(base: &str) -> Http {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = ureq::Agent::config_builder().tls_config(tls).timeout_connect(Some(Duration::from_secs(10)));
        let config = config.timeout_global(Some(PATIENCE)).http_status_as_error(false);
        let agent = config.user_agent(concat!("pipe/", env!("CARGO_PKG_VERSION"))).build().new_agent();
        Http { agent, base: base.trim_end_matches('/').to_owned(), authorization: None }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// What [`Failure`] says.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.request("GET", path, None, ())
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// As [`Http::get`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.request("POST", path, Some("application/json"), body.to_string())
    }

    /// Sends bytes, and reads JSON, or nothing.
    ///
    /// # Errors
    /// As [`Http::get`].
    pub fn request(
        &self,
        method: &str,
        path: &str,
        content: Option<&str>,
        body: impl AsSendBody,
    ) -> Result<Value, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        if let Some(content) = content {
            request = request.header("Content-Type", content);
        }
        let request = request.body(body).context("the address of the server")?;
        let path = path.split('?').next().unwrap_or_default();
        let what = || format!("{method} {}{path}", self.base);
        let answer = self.agent.run(request).with_context(what)?;
        read(answer, &what())
    }
}

fn read(mut answer: Response<Body>, what: &str) -> Result<Value, Failure> {
    let status = answer.status().as_u16();
    let text = answer.body_mut().with_config().limit(ANSWER).read_to_string();
    if (200..300).contains(&status) {
        let text = text.with_context(|| what.to_owned())?;
        return Ok(serde_json::from_str(&text).unwrap_or(Value::Null));
    }
    let text: String = text.unwrap_or_default().chars().take(TOLD).collect();
    let error = anyhow!("{what}: status {status}: {}", text.trim());
    match status {
        408 | 425 | 429 | 500.. => Err(Failure::Passing(error)),
        _ => Err(Failure::Refused(status, error)),
    }
}

/// A piece of an address, with everything escaped that is not plain; slashes stay.
pub fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
