//! `[links]`: signed URLs.

use std::time::Duration;

use super::reader::Reader;

const DAY: u64 = 24 * 3600;

/// `[links]`: how long signed URLs hold.
#[derive(Clone, Debug)]
pub struct LinksConfig {
    /// `links.max_expires`: longest time that one can be made for.
    pub max_expires: Duration,
    /// `links.default_expires`: time of one whose request does not say.
    pub default_expires: Duration,
    /// `links.key_overlap`: time for which a key that was rotated still holds.
    pub key_overlap: Duration,
}

impl LinksConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let config = Self {
            max_expires: r.time("links.max_expires", 1..=366 * DAY),
            default_expires: r.time("links.default_expires", 1..=366 * DAY),
            key_overlap: r.time("links.key_overlap", 0..=366 * DAY),
        };
        if config.default_expires > config.max_expires {
            r.conflict("links.default_expires must not exceed links.max_expires");
        }
        config
    }
}
