//! The socket and the routes.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::checker::Checker;
use crate::state::State;
use crate::{api, assets, guard, live};

/// The port that is tried first.
pub const PORT: u16 = 8420;

/// A token has at least so many characters.
const SHORTEST_TOKEN: usize = 16;

/// What a page is of, and for whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folders in which runs are looked for.
    pub roots: Vec<PathBuf>,
    /// The address. Where it is no loopback one, everything needs the token.
    pub host: IpAddr,
    /// The port; without one, the first free one from [`PORT`] on.
    pub port: Option<u16>,
    /// The token; without one, a random one. One that is given is needed for reading, too.
    pub token: Option<String>,
    /// Where what is known of runs is kept; without one, in the user's cache.
    pub index: Option<PathBuf>,
    /// Who checks pipelines that are edited on the page; without one, that is left to the run.
    pub checker: Option<Checker>,
}

/// A page that can be opened.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    state: Arc<State>,
}

impl Server {
    /// Takes the address. From now on connections are kept waiting, until [`Server::run`].
    ///
    /// # Errors
    /// When the address is taken, or the token is too short.
    pub fn bind(settings: Settings) -> Result<Server> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = runtime.block_on(listen(settings.host, settings.port))?;
        let address = listener.local_addr()?;
        let open = address.ip().is_loopback() && settings.token.is_none();
        let token = settings.token.map_or_else(random_token, Ok)?;
        let fits = token.len() >= SHORTEST_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(fits, "the token needs at least {SHORTEST_TOKEN} characters, without spaces, of ASCII");
        let state = Arc::new(State::new(settings.roots, settings.index, address, token, open).with(settings.checker));
        Ok(Server { runtime, listener, state })
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.state.address
    }

    /// What is to be opened in a browser; with the token, which browsers send to nobody in that place.
    pub fn url(&self) -> String {
        format!("http://{}/#token={}", self.state.address, self.state.token)
    }

    /// The token.
    pub fn token(&self) -> &str {
        &self.state.token
    }

    /// Serves, for as long as the program lives.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn run(self) -> Result<()> {
        let routes = routes(self.state);
        self.runtime.block_on(async { axum::serve(self.listener, routes).await })?;
        Ok(())
    }
}

fn routes(state: Arc<State>) -> Router {
    let api = Router::new()
        .route("/session", get(guard::session))
        .route("/login", post(guard::login))
        .route("/runs", get(api::runs::table))
        .route("/keys", get(api::runs::keys))
        .route("/runs/{run}", get(api::run::run))
        .route("/runs/{run}/about", post(api::about::edit))
        .route("/runs/{run}/check", post(api::steer::check))
        .route("/runs/{run}/requests", get(api::steer::list).post(api::steer::ask))
        .route("/runs/{run}/job", post(api::steer::job))
        .route("/runs/{run}/media", get(api::media::list))
        .route("/runs/{run}/media/{item}", get(api::media::value))
        .route("/runs/{run}/image/{name}", get(api::media::image))
        .route("/runs/{run}/console", get(api::files::console))
        .route("/runs/{run}/files", get(api::files::list))
        .route("/runs/{run}/file", get(api::files::download))
        .route("/series", get(api::series::series))
        .route("/compare", get(api::compare::compare))
        .route("/study", get(api::study::study))
        .route("/live", get(live::live))
        .fallback(api::unknown);
    Router::new()
        .nest("/api", api)
        .fallback(get(assets::serve))
        .layer(middleware::from_fn_with_state(state.clone(), guard::guard))
        .with_state(state)
}

async fn listen(host: IpAddr, port: Option<u16>) -> Result<TcpListener> {
    let ports = port.map_or(PORT..=PORT + 19, |port| port..=port);
    let mut last = None;
    for port in ports {
        match TcpListener::bind((host, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some((port, error)),
        }
    }
    let (port, error) = last.context("there is a port")?;
    let hint = if error.kind() == std::io::ErrorKind::AddrInUse { "; `--port 0` takes a free one" } else { "" };
    Err(error).with_context(|| format!("cannot listen on {}{hint}", SocketAddr::new(host, port)))
}

/// 128 bits of the system's.
fn random_token() -> Result<String> {
    let mut bytes = [0u8; 16];
    let mut source = File::open("/dev/urandom").context("cannot open /dev/urandom for a token")?;
    source.read_exact(&mut bytes).context("cannot read /dev/urandom for a token")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
