//! How large what is stored is: that of the targets, or little, for a check.

/// Sizes of the corpus.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Instances of a study of CT.
    pub study: u64,
    /// Instances of the study whose metadata is asked for.
    pub metadata: u64,
    /// Studies whose metadata is asked for once each.
    pub cold: u64,
    /// Frames of the multi-frame object.
    pub frames: u32,
    /// Frames of the large one: of 524,288 bytes each.
    pub large_frames: u32,
    /// Studies that are searched, of 5 series with 10 instances each.
    pub population: u64,
}

impl Sizes {
    pub const FULL: Self = Self {
        study: 100,
        metadata: 500,
        cold: 10,
        frames: 200,
        large_frames: 954,
        population: 200,
    };

    /// Little of everything, for those who have no time.
    pub const TINY: Self =
        Self { study: 5, metadata: 20, cold: 3, frames: 8, large_frames: 40, population: 4 };
}
