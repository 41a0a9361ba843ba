//! The page of runs: a server that reads runs' folders, and the page itself, which is made of `ui/` and lies in the program.
//!
//! - [`server`]: the socket, the routes; [`Settings`] and [`Server`]
//! - `guard`: who may ask for what: names of the host, origins, the token, what a browser is told to refuse
//! - `state`: what requests share: the runs as they are now, open curves, the token
//! - `api`: one file a view's data; `live`: what has changed, as it does; `problem`: what is answered to a request that cannot be served
//! - `checker`: who checks pipelines that are edited
//! - `inside`: files of a run, and none outside of it
//! - `assets`: the page
//! - [`export`](mod@export): the page as a file
//!
//! All that is changed is `about.json` of a run, what it is asked in `requests`, and the queue of who has its job, and that only with the token. What a run wrote is data: it is never sent as a page.

mod api;
mod assets;
mod checker;
pub mod export;
mod guard;
mod inside;
mod live;
mod problem;
pub mod server;
mod state;

pub use checker::Checker;
pub use server::{Server, Settings};
