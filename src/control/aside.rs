//! Threads on which Stores are worked at: the kernel lets all others go before them.
//!
//! Bytes of Stores are searched for boundaries, parsed, hashed and written for milliseconds at a
//! time. Whoever asks for something small meanwhile would find every thread busy, and a processor
//! that is another thread's until its slice ends. Holds: where nothing else is to be done, Stores
//! have all processors; what others wait for (a connection of the database, say) does not depend on
//! these threads for its readiness.

use std::{future::Future, panic::resume_unwind, sync::Arc};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// What the kernel is told of how much these threads may wait, from 0 to 19: about a quarter of a
/// processor for each of them while another thread wants all of it.
#[cfg(target_os = "linux")]
const NICE: libc::c_int = 6;

/// The threads. Cheap to clone.
#[derive(Clone)]
pub struct Aside(Arc<Owned>);

struct Owned {
    handle: Handle,
    /// `None` once it ends.
    runtime: Option<Runtime>,
}

impl Aside {
    /// Starts them, one for each processor.
    ///
    /// # Errors
    /// Where the operating system gives no threads.
    pub fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .enable_all()
            .thread_name("stores")
            .on_thread_start(step_back)
            .build()?;
        Ok(Self(Arc::new(Owned { handle: runtime.handle().clone(), runtime: Some(runtime) })))
    }

    /// Does something on them, for as long as somebody waits for it. `None`: they end.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        match AbortOnDropHandle::new(self.0.handle.spawn(work)).await {
            Ok(done) => Some(done),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => None,
            },
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Whoever lets go of it last may be a task, which must not wait for threads.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lets other threads go first. Elsewhere than on Linux that could only be said of the process.
fn step_back() {
    #[cfg(target_os = "linux")]
    // SAFETY: takes numbers and touches no memory of ours. On Linux, 0 is the calling thread.
    unsafe {
        // Where it is refused, Stores are as important as the rest.
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_is_done_on_threads_of_their_own_that_step_back() {
        let aside = Aside::start().unwrap();
        let work = async {
            let name = std::thread::current().name().map(str::to_owned);
            // Files are written on the threads of blocking calls: these step back as well.
            (name, nice(), tokio::task::spawn_blocking(nice).await.unwrap())
        };
        let (name, own, blocking) = aside.run(work).await.unwrap();
        assert_eq!(name.as_deref(), Some("stores"));
        #[cfg(target_os = "linux")]
        assert_eq!((own - nice(), blocking - nice()), (NICE, NICE));
        #[cfg(not(target_os = "linux"))]
        assert_eq!((own, blocking), (nice(), nice()));
    }

    #[tokio::test]
    async fn work_ends_with_who_waits_for_it() {
        let aside = Aside::start().unwrap();
        let (held, dropped) = oneshot::channel::<()>();
        let work = aside.run(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), work).await.is_err());
        // Its sender is gone.
        dropped.await.unwrap_err();
    }

    #[tokio::test]
    #[should_panic(expected = "as it was said")]
    async fn a_panic_is_that_of_who_waits() {
        let aside = Aside::start().unwrap();
        aside.run(async { panic!("as it was said") }).await;
    }

    fn nice() -> i32 {
        // SAFETY: as above.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }
}
