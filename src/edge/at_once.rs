//! Answers calls where they arrive: a call becomes a task of its own only if it has to wait.
//!
//! Most questions are whole when they are seen and answered from memory. A task for each of them, to be scheduled, run
//! and forgotten, costs as much as answering it. Not here: what answers.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use hyper::rt::Executor;

/// Tries at once, and spawns what is not ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtOnce;

impl<F> Executor<F> for AtOnce
where
    F: Future<Output: Send> + Unpin + Send + 'static,
{
    fn execute(&self, mut call: F) {
        // Nobody need be woken: a call that waits is looked at again by its task, which is told of all that comes then.
        let mut context = Context::from_waker(Waker::noop());
        // A call that fails so takes down itself and not the others of its connection, as it would in a task; what
        // went wrong is told where it went wrong.
        let tried = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut call).poll(&mut context)));
        if let Ok(Poll::Pending) = tried {
            drop(tokio::spawn(call));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn what_is_ready_needs_no_task() {
        // Spawned here, where no runtime is, it would panic.
        let done = Arc::new(AtomicBool::new(false));
        let call = {
            let done = Arc::clone(&done);
            Box::pin(async move { done.store(true, Ordering::Relaxed) })
        };
        AtOnce.execute(call);
        assert!(done.load(Ordering::Relaxed));
        AtOnce.execute(ready(()));
    }

    #[tokio::test]
    async fn what_waits_goes_on_as_a_task_that_hears_what_it_waits_for() {
        let (answer, answered) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        AtOnce.execute(Box::pin(async move {
            let _ = tell.send(answered.await);
        }));
        answer.send(7).unwrap();
        assert_eq!(told.await.unwrap(), Ok(7));
        AtOnce.execute(pending::<()>());
    }

    #[tokio::test]
    async fn a_call_that_fails_takes_nobody_with_it() {
        AtOnce
            .execute(Box::pin(async { assert_eq!(1, 2, "this call fails, and is told of below its test") }));
    }
}
