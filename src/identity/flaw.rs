//! What can be wrong with an access token.

/// Why a token is not taken. What can only be said of a token that its issuer really signed is told
/// to who sent it; of everything before that, nothing is told but that it is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.said())]
pub enum Flaw {
    /// It is no compact JWS with JSON objects in it, or too long, or says something twice.
    Malformed,
    /// Its header asks for something that has to be understood and is not (`crit`, RFC 7515 §4.1.11).
    Critical,
    /// It is a token of another type (`typ`, RFC 8725 §3.11).
    Type,
    /// It is from nobody whose tokens are taken.
    Issuer,
    /// Its algorithm is not one of the issuer's, or of the key's.
    Algorithm,
    /// There is no such key.
    Key,
    /// Its signature does not fit.
    Signature,
    /// Its time is over, or it does not say when that is.
    Expired,
    /// Its time has not come, or it was issued in the future.
    NotYet,
    /// It is meant for somebody else.
    Audience,
    /// It was made for a client that is not let in.
    Party,
    /// It is of use only together with a key that it names (RFC 8705, RFC 9449).
    Bound,
    /// It is not for access: an ID token, or one to get others by.
    Purpose,
    /// A claim that is needed is missing, or is not what it must be.
    Claim,
}

impl Flaw {
    /// The word for it, for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Critical => "critical",
            Self::Type => "type",
            Self::Issuer => "issuer",
            Self::Algorithm => "algorithm",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYet => "not-yet",
            Self::Audience => "audience",
            Self::Party => "party",
            Self::Bound => "bound",
            Self::Purpose => "purpose",
            Self::Claim => "claim",
        }
    }

    /// What is told of it.
    pub const fn said(self) -> &'static str {
        match self {
            Self::Malformed
            | Self::Critical
            | Self::Type
            | Self::Issuer
            | Self::Algorithm
            | Self::Key
            | Self::Signature => "the access token is not valid",
            Self::Expired => "the access token has expired",
            Self::NotYet => "the access token is not valid yet",
            Self::Audience => "the access token is meant for somebody else",
            Self::Party => "the access token was made for a client that is not let in",
            Self::Bound => {
                "the access token is bound to a key, and cannot be used as a bearer token"
            }
            Self::Purpose => "the token is not an access token",
            Self::Claim => "a claim of the access token is missing or not what it must be",
        }
    }
}
