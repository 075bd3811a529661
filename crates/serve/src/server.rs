//! The server itself: bound to this machine alone, with an end.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware;

use crate::library::Library;
use crate::{api, assets, guard};

/// Where a server is looked for unless a port is asked for: the first free one from here on.
pub const FIRST_PORT: u16 = 7311;
/// How many are tried before any free one is taken.
const TRIED_PORTS: u16 = 20;
/// Threads that look things up at the same time.
const LOOKING_UP: usize = 16;
/// How long requests in hand may take when the server is to end.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is asked whether to end.
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is taken.
    #[error("port {port} of 127.0.0.1 cannot be used: {source}; choose another with --port, or 0 for any that is free")]
    Port {
        /// The one that was asked for.
        port: u16,
        /// What the system says.
        source: std::io::Error,
    },
    /// The system gives no threads, or takes the socket away.
    #[error("the server cannot run: {0}")]
    Run(#[from] std::io::Error),
}

/// A server that holds its port and does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    library: Arc<Library>,
}

impl Server {
    /// Takes a port of 127.0.0.1: the one asked for (0: any), or the first free one near [`FIRST_PORT`].
    ///
    /// # Errors
    /// A port that is taken.
    pub fn bind(library: Arc<Library>, port: Option<u16>) -> Result<Server, ServeError> {
        let bind = |port: u16| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|source| ServeError::Port { port, source })
        };
        let listener = match port {
            Some(port) => bind(port)?,
            None => match (FIRST_PORT..FIRST_PORT + TRIED_PORTS).find_map(|port| bind(port).ok()) {
                Some(listener) => listener,
                None => bind(0)?,
            },
        };
        Ok(Server { address: listener.local_addr()?, listener, library })
    }

    /// The address to open in a browser.
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers until `stopped` says so.
    ///
    /// # Errors
    /// A system that gives no threads.
    pub fn run(self, stopped: impl Fn() -> bool + Send + 'static) -> Result<(), ServeError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(LOOKING_UP)
            .enable_all()
            .build()?;
        let library = self.library.clone();
        let result = runtime.block_on(async move {
            self.listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            let serving = axum::serve(listener, router(self.library, self.address.port()));
            let (tell, told) = tokio::sync::oneshot::channel::<()>();
            let graceful = serving.with_graceful_shutdown(async move {
                // The sender is dropped when the end has come.
                let _ = told.await;
            });
            tokio::select! {
                result = into_future(graceful) => result,
                () = end(stopped, tell) => Ok(()),
            }
        });
        library.stop();
        runtime.shutdown_timeout(GRACE);
        Ok(result?)
    }
}

async fn into_future<T>(future: impl IntoFuture<Output = T>) -> T {
    future.await
}

/// Returns when the server has to be gone: some time after `stopped` has said so and the server was told.
async fn end(stopped: impl Fn() -> bool, tell: tokio::sync::oneshot::Sender<()>) {
    while !stopped() {
        tokio::time::sleep(ASKED_EVERY).await;
    }
    drop(tell);
    tokio::time::sleep(GRACE).await;
}

/// Everything that the server answers at `port`; to be tested without a socket.
pub fn router(library: Arc<Library>, port: u16) -> Router {
    api::router().with_state(library).fallback(assets::page).layer(middleware::from_fn_with_state(port, guard::guard))
}
