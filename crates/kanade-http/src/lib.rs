//! The HTTP API of kanade: routes, authentication, problem details, live events, OpenAPI. Speaks to the services of
//! `kanade-core` and to nothing below them.
//!
//! - [`router`] is the API as an [`axum::Router`], [`router_with_pages`] with a web page beside it, [`openapi`] its
//!   description;
//! - [`serve`] puts it on a socket: TLS, connection limits, time limits, an orderly end.
//!
//! Inside, `routes` has one module per resource, whose handlers take apart a request (`extract`), call one service
//! and shape the answer. `gateway` carries the calls of agents on other machines. `problem` is the one place where an error becomes a status, `trace` the one that logs.

mod about;
mod accept;
mod app;
mod auth;
mod extract;
mod gateway;
mod limits;
mod openapi;
mod origin;
mod problem;
mod routes;
mod settings;
mod tls;
mod trace;

pub use about::About;
pub use accept::{AcceptLimits, serve};
pub use app::{router, router_with_pages};
pub use auth::{Auth, NamedToken};
pub use gateway::{AgentToken, NoTokenHash, TokenHash};
pub use openapi::openapi;
pub use settings::{GatewaySettings, HttpSettings};
pub use tls::{Tls, TlsError};

use app::App;
