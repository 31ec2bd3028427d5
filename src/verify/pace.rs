//! How fast bytes are read: no faster than told, and counted as they pass.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// What may be read at once after a rest.
const BURST: Duration = Duration::from_millis(500);

/// Counts bytes, and makes who reads them wait. Clones share the count, not the clock.
#[derive(Clone, Debug)]
pub struct Pace {
    rate: Option<u64>,
    /// When what has passed so far would have passed at the rate.
    due: Instant,
    passed: Arc<AtomicU64>,
}

impl Pace {
    /// At most `rate` bytes a second; `None`: as fast as they come.
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate, due: Instant::now(), passed: Arc::default() }
    }

    /// The count of bytes, as it goes on.
    pub fn passed(&self) -> Arc<AtomicU64> {
        self.passed.clone()
    }

    /// Lets bytes that were read pass.
    pub(super) async fn pass(&mut self, bytes: usize) {
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
        let now = Instant::now();
        let until = self.until(now, bytes);
        if until > now {
            tokio::time::sleep_until(until).await;
        }
    }

    /// Until when who has read `bytes` has to wait.
    fn until(&mut self, now: Instant, bytes: usize) -> Instant {
        let Some(rate) = self.rate else { return now };
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let takes = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        self.due = self.due.max(earliest) + takes;
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_passes_than_the_rate_allows() {
        let mut pace = Pace::new(Some(1000));
        let begun = pace.due;
        let mut now = begun;
        for _ in 0..10 {
            now = pace.until(now, 500).max(now);
        }
        assert_eq!(now - begun, Duration::from_secs(5));
        // A rest earns half a second, and no more.
        now += Duration::from_secs(100);
        assert_eq!(pace.until(now, 1000) - now, Duration::from_millis(500));
        let mut free = Pace::new(None);
        assert_eq!(free.until(now, 1 << 30), now);
    }
}
