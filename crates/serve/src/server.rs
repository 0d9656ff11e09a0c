//! Listening, connections and the drain.

use crate::{api, state::Shared};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use understudy_core::{Error, Result};

/// Longest time for a client to send its request's head; slower ones hold a connection for nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Binds the listening socket.
///
/// # Errors
/// `Unavailable` when the address is taken or may not be used.
pub async fn bind(address: SocketAddr) -> Result<Server> {
    let listener = TcpListener::bind(address).await.map_err(|e| {
        let remedy = match e.kind() {
            std::io::ErrorKind::AddrInUse => "; another process has it: set [server] listen to another port",
            std::io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
            _ => "",
        };
        Error::unavailable(format!("listen on {address}: {e}{remedy}"))
    })?;
    Ok(Server { listener })
}

/// A bound server.
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// The address it really has; differs from the one asked for when that had port 0.
    ///
    /// # Errors
    /// `Internal` when the system does not say.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|e| Error::internal(format!("read the listening address: {e}")))
    }

    /// Serves until `stop`, then drains: no new connections, `/ready` says no, open requests finish, and so do their
    /// audits, for at most the drain's time.
    pub async fn run(self, shared: Arc<Shared>, stop: CancellationToken) {
        let app = api::router(shared.clone());
        let graceful = GracefulShutdown::new();
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        loop {
            let (socket, _) = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, mostly: the next accept would fail at once, so breathe first.
                        tracing::warn!(%error, "failed to accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                () = stop.cancelled() => break,
            };
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%error, "failed to set TCP_NODELAY");
            }
            let connection = http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(app.clone()));
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended early");
                }
            });
        }
        drop(self.listener);
        shared.begin_drain();
        shared.work.close();
        let drained = async {
            graceful.shutdown().await;
            shared.work.wait().await;
        };
        if tokio::time::timeout(shared.limits.drain, drained).await.is_err() {
            tracing::warn!(
                open = shared.work.len(),
                "stopped before all requests were finished: the drain's time was up"
            );
        }
    }
}
