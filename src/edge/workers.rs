//! Threads that serve a listener: one accept queue and one runtime each, connections served where they are taken.
//!
//! A runtime of many threads hands each task from one to another, which costs a small call as much again as its answer.
//! Not here: what is done on a connection (see `accept`).

use std::{future::Future, io, thread};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::listener::{Listener, Socket};

/// Threads that serve a listener. Dropped, they end at once, whatever is open.
#[derive(Debug)]
pub struct Workers {
    cut_off: CancellationToken,
    ended: mpsc::Receiver<io::Error>,
}

/// Why a listener is not served any more.
#[derive(Debug, thiserror::Error)]
#[error("a listener is not served: {0}")]
pub struct WorkersError(#[from] io::Error);

impl Workers {
    /// Serves each queue of `listener` on a thread of its own.
    pub fn start<F>(
        listener: Listener,
        serve: impl Fn(Socket) -> F + Clone + Send + 'static,
    ) -> Result<Self, WorkersError>
    where
        F: Future<Output = io::Result<()>>,
    {
        let cut_off = CancellationToken::new();
        let (failed, ended) = mpsc::channel(1);
        for (number, socket) in listener.into_queues().into_iter().enumerate() {
            let (serve, cut_off, failed) = (serve.clone(), cut_off.clone(), failed.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let work = move || {
                let served = runtime.block_on(cut_off.run_until_cancelled(serve(socket)));
                if let Some(Err(error)) = served {
                    // Nobody listens any more when another has failed already.
                    let _ = failed.blocking_send(error);
                }
                runtime.shutdown_background();
                // What serves holds what others may open once this is heard to have ended.
                drop(serve);
                drop(failed);
            };
            thread::Builder::new().name(format!("calls-{number}")).spawn(work)?;
        }
        Ok(Self { cut_off, ended })
    }

    /// Returns once all connections have ended.
    pub async fn ended(mut self) -> Result<(), WorkersError> {
        match self.ended.recv().await {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }
}

/// Serves the queues of `listener` on this runtime.
pub async fn serve_here<F>(listener: Listener, serve: impl Fn(Socket) -> F) -> Result<(), WorkersError>
where
    F: Future<Output = io::Result<()>>,
{
    futures_util::future::try_join_all(listener.into_queues().into_iter().map(serve)).await?;
    Ok(())
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.cut_off.cancel();
    }
}
