//! `[overload]`: how much is worked at a time, and what becomes of the rest.

use std::time::Duration;

use super::reader::Reader;

/// `[overload]`: bounds on requests, by class and by partition.
#[derive(Clone, Debug)]
pub struct OverloadConfig {
    /// `overload.working`: requests that are worked at, at a time.
    pub working: usize,
    /// `overload.heavy`: how many of them may be heavy.
    pub heavy: usize,
    /// `overload.open`: requests that have begun and whose answers have not ended.
    pub open: usize,
    /// `overload.partition_share`: most of each that one partition has, of a hundred.
    pub partition_share: usize,
    /// `overload.queue`: requests of one partition and class that wait for their turn.
    pub queue: usize,
    /// `overload.wait`: longest wait for a turn.
    pub wait: Duration,
    /// `overload.stores_beside`: Stores of one partition that are worked at while another one asks
    /// for something small; zero: one for each two processors.
    pub stores_beside: usize,
    /// `overload.deadline`: time until a read's answer begins; zero: none.
    pub deadline: Duration,
    /// `overload.heavy_deadline`: the same of a heavy one.
    pub heavy_deadline: Duration,
}

impl OverloadConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let config = Self {
            working: r.count("overload.working", 2..=100_000),
            heavy: r.count("overload.heavy", 1..=100_000),
            open: r.count("overload.open", 2..=1_000_000),
            partition_share: r.count("overload.partition_share", 1..=100),
            queue: r.count("overload.queue", 0..=100_000),
            wait: r.time("overload.wait", 0..=3600),
            stores_beside: r.count("overload.stores_beside", 0..=100_000),
            deadline: r.time("overload.deadline", 0..=86_400),
            heavy_deadline: r.time("overload.heavy_deadline", 0..=86_400),
        };
        if config.heavy >= config.working {
            r.conflict("overload.heavy must be less than overload.working");
        }
        if config.working > config.open {
            r.conflict("overload.working must not exceed overload.open");
        }
        config
    }
}
