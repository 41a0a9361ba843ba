//! The page, as it lies in the program. Every address that is none of the server's is one of the page's own views.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// What is said then.
pub const NOT_BUILT: &str = "This `pipe` was built without its page. `cargo xtask setup` makes the page (it needs Node, or Python with pip); \
                         then build `pipe` again.\n";

/// A file of the page; `None` where the program was built without it.
pub fn file(name: &str) -> Option<&'static str> {
    ASSETS.iter().find(|(own, _)| *own == name).and_then(|(_, bytes)| std::str::from_utf8(bytes).ok())
}

/// Serves a file of the page, or the page.
pub async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    let name = uri.path().trim_start_matches('/');
    let find = |name: &str| ASSETS.iter().find(|(own, _)| *own == name);
    let wanted = if name.contains('.') { find(name) } else { find("index.html") };
    let Some((name, bytes)) = wanted else {
        return if ASSETS.is_empty() {
            (StatusCode::SERVICE_UNAVAILABLE, NOT_BUILT).into_response()
        } else {
            (StatusCode::NOT_FOUND, "there is no such file\n").into_response()
        };
    };
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let digest = Sha256::digest(bytes);
    let tag: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response();
    }
    ([(CONTENT_TYPE, kind.to_owned()), (CACHE_CONTROL, "no-cache".to_owned()), (ETAG, tag)], *bytes).into_response()
}
