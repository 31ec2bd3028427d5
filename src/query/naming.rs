//! Which parameters of a search name partitions, and are no business of its query.

/// Name of the query parameter, of the header (in any case) and of the first part's key.
pub const PARTITION_ID: &str = "microsoft.partitionId";

/// The partition as an attribute of results, which a search may name as well: (0065,1001), and the
/// creator of its block.
pub const PARTITION_TAG: &str = "00651001";
const CREATOR_TAG: &str = "00650010";
const CREATOR: &str = "COLLIMATOR PARTITION";

/// Which parameters of a search are about partitions: `microsoft.partitionId`, and its attribute,
/// unless the query says that the block is another creator's.
#[derive(Clone, Copy, Debug)]
pub struct Naming {
    by_tag: bool,
}

impl Naming {
    /// Reads who the creator is.
    pub fn of(query: &str) -> Self {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        let foreign = pairs.any(|(name, value)| name == CREATOR_TAG && value.trim() != CREATOR);
        Self { by_tag: !foreign }
    }

    /// Whether the attribute is ours.
    pub fn by_tag(self) -> bool {
        self.by_tag
    }

    /// Whether a parameter (or an included field) of this name is about partitions.
    pub fn has(self, name: &str) -> bool {
        name == PARTITION_ID || (self.by_tag && matches!(name, PARTITION_TAG | CREATOR_TAG))
    }
}
