//! Where pixels are decoded, encoded and drawn: threads of their own, apart from the runtime.
//!
//! Owns the threads, the queues and the memory that frames in flight may take together. Holds:
//! partitions take turns, so that one with much to do delays another by one piece of work for each
//! thread; work whose caller has gone is dropped unless it has begun; a panic ends the work, not
//! the thread; the bytes of frames that are held at once never exceed `retrieve.codec_bytes`, of
//! which one partition gets half at most. Absent: what the work is.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::ArchiveError;
use crate::{config::RetrieveConfig, tenancy::PartitionId};

/// Work of one partition that may wait; more is refused.
const QUEUE: usize = 256;
/// The bytes that one permit of the memory bound stands for.
const UNIT: u64 = 4096;
/// Partitions whose share is remembered before unused ones are forgotten.
const SHARES: usize = 256;

/// The pool. Dropping it lets its threads end.
pub struct CodecPool {
    shared: Arc<Shared>,
    next: AtomicU64,
    memory: Memory,
}

struct Shared {
    threads: usize,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queues: HashMap<PartitionId, VecDeque<Work>>,
    /// The partitions whose queue is not empty, the next one first.
    turns: VecDeque<PartitionId>,
    threads: usize,
    idle: usize,
    closed: bool,
}

struct Work {
    id: u64,
    run: Box<dyn FnOnce() + Send>,
}

/// Whether work may be refused because too much of it waits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Admission {
    /// A new request.
    New,
    /// The next frame of an answer that has begun: there is no status left to refuse it with. How
    /// much of it there is, is bounded by the number of answers.
    Begun,
}

impl CodecPool {
    /// A pool; its threads start with the first work.
    pub fn new(config: &RetrieveConfig) -> Self {
        let threads = match config.codec_threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let shared = Shared { threads, state: Mutex::default(), wake: Condvar::new() };
        Self {
            shared: Arc::new(shared),
            next: AtomicU64::new(0),
            memory: Memory::new(config.codec_bytes),
        }
    }

    /// Runs `work` on a thread of the pool. Work that has not begun is dropped with this future.
    ///
    /// # Errors
    /// [`ArchiveError::Unavailable`] where too much work of this partition waits already;
    /// [`ArchiveError::Internal`] where the work panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        partition: &PartitionId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ArchiveError> {
        self.submit(partition, Admission::New, work).await
    }

    /// As [`CodecPool::run`] for the next piece of an answer that has begun: it waits its turn, but
    /// is not refused.
    ///
    /// # Errors
    /// As [`CodecPool::run`], but for the first.
    pub async fn go_on<T: Send + 'static>(
        &self,
        partition: &PartitionId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ArchiveError> {
        self.submit(partition, Admission::Begun, work).await
    }

    /// Waits until `bytes` of memory may be used for a frame.
    ///
    /// # Errors
    /// [`ArchiveError::TooLarge`] where they never may.
    pub async fn reserve(
        &self,
        partition: &PartitionId,
        bytes: u64,
    ) -> Result<Reserved, ArchiveError> {
        self.memory.reserve(partition, bytes).await
    }

    /// As [`CodecPool::reserve`], but only what is free at once.
    pub fn reserve_now(&self, partition: &PartitionId, bytes: u64) -> Option<Reserved> {
        self.memory.reserve_now(partition, bytes)
    }

    async fn submit<T: Send + 'static>(
        &self,
        partition: &PartitionId,
        admission: Admission,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let (sender, receiver) = oneshot::channel();
        let run = Box::new(move || {
            if !sender.is_closed() {
                // What the work captured is dropped with it; nothing half-done is seen again.
                let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
            }
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.shared.push(partition, admission, Work { id, run })?;
        let _dropped = Withdraw { shared: &self.shared, partition, id };
        match receiver.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_panic)) => Err(ArchiveError::Internal(anyhow::anyhow!("a codec panicked"))),
            Err(_) => Err(ArchiveError::Unavailable(anyhow::anyhow!("the codec pool has ended"))),
        }
    }
}

impl Drop for CodecPool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.queues.clear();
        state.turns.clear();
        self.shared.wake.notify_all();
    }
}

impl Shared {
    /// The state; a panic while it was held left it whole, since nothing under the lock can panic
    /// halfway.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(
        self: &Arc<Self>,
        partition: &PartitionId,
        admission: Admission,
        work: Work,
    ) -> Result<(), ArchiveError> {
        let mut state = self.lock();
        let waiting = state.queues.get(partition).map_or(0, VecDeque::len);
        if admission == Admission::New && waiting >= QUEUE {
            let error = anyhow::anyhow!("too much work waits for the codecs");
            return Err(ArchiveError::Unavailable(error));
        }
        if state.idle == 0 && state.threads < self.threads {
            let shared = self.clone();
            let name = "collimator-codec".to_owned();
            match thread::Builder::new().name(name).spawn(move || shared.serve()) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    return Err(ArchiveError::Unavailable(error.into()));
                }
                // Those that run do.
                Err(_) => {}
            }
        }
        if waiting == 0 {
            state.turns.push_back(partition.clone());
        }
        state.queues.entry(partition.clone()).or_default().push_back(work);
        self.wake.notify_one();
        Ok(())
    }

    fn serve(&self) {
        let mut state = self.lock();
        loop {
            match state.next() {
                Some(work) => {
                    drop(state);
                    (work.run)();
                    state = self.lock();
                }
                None if state.closed => return,
                None => {
                    state.idle += 1;
                    state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.idle -= 1;
                }
            }
        }
    }
}

impl State {
    fn next(&mut self) -> Option<Work> {
        let partition = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&partition)?;
        let work = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&partition);
        } else {
            self.turns.push_back(partition);
        }
        work
    }

    fn withdraw(&mut self, partition: &PartitionId, id: u64) -> Option<Work> {
        let queue = self.queues.get_mut(partition)?;
        let at = queue.iter().position(|work| work.id == id)?;
        let work = queue.remove(at);
        if queue.is_empty() {
            self.queues.remove(partition);
            self.turns.retain(|turn| turn != partition);
        }
        work
    }
}

/// Takes work out of the queue when nobody waits for it any more.
struct Withdraw<'a> {
    shared: &'a Shared,
    partition: &'a PartitionId,
    id: u64,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        let work = self.shared.lock().withdraw(self.partition, self.id);
        // After the lock: what the work captured may be large.
        drop(work);
    }
}

/// The bound on what frames in flight hold.
struct Memory {
    limit: u64,
    total: Arc<Semaphore>,
    units: u32,
    share: u32,
    shares: Mutex<HashMap<PartitionId, Arc<Semaphore>>>,
}

/// Memory that may be used until this is dropped.
#[derive(Debug)]
pub struct Reserved {
    _of_partition: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Memory {
    fn new(limit: u64) -> Self {
        let units = u32::try_from(limit / UNIT).unwrap_or(u32::MAX).max(1);
        Self {
            limit,
            total: Arc::new(Semaphore::new(units as usize)),
            units,
            share: (units / 2).max(1),
            shares: Mutex::default(),
        }
    }

    async fn reserve(&self, partition: &PartitionId, bytes: u64) -> Result<Reserved, ArchiveError> {
        let units = units(bytes);
        if units > self.units {
            return Err(ArchiveError::TooLarge { key: "retrieve.codec_bytes", limit: self.limit });
        }
        let closed = |error: tokio::sync::AcquireError| ArchiveError::Internal(error.into());
        // A frame that is larger than the share of its partition is alone in it.
        let share = self.share_of(partition).acquire_many_owned(units.min(self.share));
        let of_partition = share.await.map_err(closed)?;
        let of_all = self.total.clone().acquire_many_owned(units).await.map_err(closed)?;
        Ok(Reserved { _of_partition: of_partition, _of_all: of_all })
    }

    fn reserve_now(&self, partition: &PartitionId, bytes: u64) -> Option<Reserved> {
        let units = units(bytes);
        if units > self.units {
            return None;
        }
        let share = self.share_of(partition);
        let of_partition = share.try_acquire_many_owned(units.min(self.share)).ok()?;
        let of_all = self.total.clone().try_acquire_many_owned(units).ok()?;
        Some(Reserved { _of_partition: of_partition, _of_all: of_all })
    }

    fn share_of(&self, partition: &PartitionId) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(partition) {
            return share.clone();
        }
        if shares.len() >= SHARES {
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = Arc::new(Semaphore::new(self.share as usize));
        shares.insert(partition.clone(), share.clone());
        share
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn pool(threads: usize, bytes: u64) -> CodecPool {
        CodecPool::new(&RetrieveConfig {
            codec_threads: threads,
            codec_bytes: bytes,
            ..RetrieveConfig::default()
        })
    }

    fn partition(name: &str) -> PartitionId {
        name.parse().unwrap()
    }

    /// Polls once, which is what puts work into the queue.
    fn begin<F: Future>(future: &mut std::pin::Pin<Box<F>>) -> Poll<F::Output> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Keeps the only thread of a pool busy until the sender is dropped or used.
    async fn occupied(pool: &CodecPool) -> (mpsc::Sender<()>, impl Future<Output = ()>) {
        let (go, wait) = mpsc::channel::<()>();
        let (started, has_started) = oneshot::channel();
        let busy = partition("busy");
        let mut running = Box::pin(async move {
            let work = move || {
                let _ = started.send(());
                let _ = wait.recv();
            };
            pool.run(&busy, work).await.unwrap();
        });
        assert!(begin(&mut running).is_pending());
        has_started.await.unwrap();
        (go, running)
    }

    #[tokio::test]
    async fn partitions_take_turns() {
        let pool = pool(1, 1 << 20);
        let (go, running) = occupied(&pool).await;
        let order = Arc::new(Mutex::new(String::new()));
        let (a, b) = (partition("a"), partition("b"));
        let mut waiting = Vec::new();
        for of in [&a, &a, &a, &b] {
            let order = order.clone();
            let name = of.to_string();
            let mut work = Box::pin(pool.run(of, move || order.lock().unwrap().push_str(&name)));
            assert!(begin(&mut work).is_pending());
            waiting.push(work);
        }
        drop(go);
        running.await;
        for work in waiting {
            work.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), "abaa");
    }

    #[tokio::test]
    async fn work_of_callers_who_left_is_dropped() {
        let pool = pool(1, 1 << 20);
        let (go, running) = occupied(&pool).await;
        let held = Arc::new(());
        let captured = held.clone();
        let a = partition("a");
        let mut abandoned = Box::pin(pool.run(&a, move || drop(captured)));
        assert!(begin(&mut abandoned).is_pending());
        assert_eq!(Arc::strong_count(&held), 2);
        drop(abandoned);
        assert_eq!(Arc::strong_count(&held), 1, "while the thread is still busy");
        drop(go);
        running.await;
        assert_eq!(pool.run(&a, || 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_its_own_partition_alone() {
        let pool = pool(1, 1 << 20);
        let (go, running) = occupied(&pool).await;
        let (a, b) = (partition("a"), partition("b"));
        let mut waiting = Vec::new();
        for _ in 0..QUEUE {
            let mut work = Box::pin(pool.run(&a, || ()));
            assert!(begin(&mut work).is_pending());
            waiting.push(work);
        }
        assert!(matches!(pool.run(&a, || ()).await, Err(ArchiveError::Unavailable(_))));
        let mut later = Box::pin(pool.go_on(&a, || ()));
        assert!(begin(&mut later).is_pending(), "an answer that has begun goes on");
        let mut other = Box::pin(pool.run(&b, || ()));
        assert!(begin(&mut other).is_pending());
        drop(go);
        running.await;
        other.await.unwrap();
        later.await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_ends_the_work_and_not_the_thread() {
        let pool = pool(1, 1 << 20);
        let a = partition("a");
        for _ in 0..3 {
            let failed = pool.run(&a, || panic!("a codec")).await;
            assert!(matches!(failed, Err(ArchiveError::Internal(_))));
        }
        let name = pool.run(&a, || thread::current().name().map(str::to_owned)).await.unwrap();
        assert_eq!(name.as_deref(), Some("collimator-codec"));
        assert_eq!(pool.shared.lock().threads, 1);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_shared() {
        let pool = pool(1, 16 * UNIT);
        let (a, b) = (partition("a"), partition("b"));
        assert!(matches!(
            pool.reserve(&a, 17 * UNIT).await,
            Err(ArchiveError::TooLarge { key: "retrieve.codec_bytes", .. })
        ));
        let first = pool.reserve(&a, 5 * UNIT).await.unwrap();
        let mut second = Box::pin(pool.reserve(&a, 5 * UNIT));
        assert!(begin(&mut second).is_pending(), "a partition gets half");
        assert!(pool.reserve_now(&a, 4 * UNIT).is_none() && pool.reserve_now(&b, UNIT).is_some());
        let other = pool.reserve(&b, 8 * UNIT).await.unwrap();
        drop(first);
        let second = second.await.unwrap();
        drop((second, other));
        let all = pool.reserve(&a, 16 * UNIT).await.unwrap();
        let mut more = Box::pin(pool.reserve(&b, 1));
        assert!(begin(&mut more).is_pending());
        drop(all);
        more.await.unwrap();
    }
}
