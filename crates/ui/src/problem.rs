//! What is answered to a request that cannot be served: `{"error": …}` with a status.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why a request cannot be served.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    message: String,
}

/// What a request comes to.
pub type Answer<T> = Result<T, Problem>;

impl Problem {
    /// There is no such thing.
    pub fn absent(message: impl Into<String>) -> Problem {
        Problem { status: StatusCode::NOT_FOUND, message: message.into() }
    }

    /// The request itself is wrong.
    pub fn wrong(message: impl Into<String>) -> Problem {
        Problem { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    /// What was asked about has changed meanwhile: ask again.
    pub fn changed(message: impl Into<String>) -> Problem {
        Problem { status: StatusCode::CONFLICT, message: message.into() }
    }

    /// The same for those who asked no server.
    pub fn into_error(self) -> anyhow::Error {
        anyhow::anyhow!(self.message)
    }

    /// Whoever asks may not.
    pub fn refused(status: StatusCode, message: impl Into<String>) -> Problem {
        Problem { status, message: message.into() }
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Problem {
        Problem { status: StatusCode::INTERNAL_SERVER_ERROR, message: format!("{error:#}") }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.message }))).into_response()
    }
}

/// Does what waits for a disk, away from the threads that answer.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(_) => Err(anyhow::anyhow!("this request met a fault of the program: please report it").into()),
    }
}
