//! What a request presents to say who asks, before any of it is believed.

use super::authenticator::{AuthError, Credentials};

/// What was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presented<'a> {
    /// Nothing.
    Nothing,
    /// An access token in the form of a JWT.
    Token(&'a str),
    /// Something opaque: an API key, by `x-api-key` or as a bearer token.
    Opaque(&'a str),
}

impl<'a> Presented<'a> {
    /// Reads what headers say. No more than one credential is taken: of two, one part of a system
    /// might believe the first and another the second (RFC 6750 §2).
    ///
    /// # Errors
    /// [`AuthError::Ambiguous`], [`AuthError::Scheme`] or [`AuthError::Unreadable`].
    pub fn read(credentials: &Credentials<'a>) -> Result<Self, AuthError> {
        match (credentials.authorization, credentials.api_key) {
            ([], []) => Ok(Self::Nothing),
            ([authorization], []) => {
                let text = str::from_utf8(authorization).map_err(|_| AuthError::Unreadable)?;
                let (scheme, token) = text.split_once(' ').ok_or(AuthError::Scheme)?;
                if !scheme.eq_ignore_ascii_case("bearer") {
                    return Err(AuthError::Scheme);
                }
                let token = token.trim_matches(' ');
                // The alphabet of RFC 6750 §2.1 has no blank and no comma.
                let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
                if token.is_empty() || !token.bytes().all(is_token) {
                    return Err(AuthError::Unreadable);
                }
                // There is no JWT without a dot. (API keys were taken out before, where they are taken.)
                Ok(if token.contains('.') { Self::Token(token) } else { Self::Opaque(token) })
            }
            ([], [key]) => {
                let key = str::from_utf8(key).map_err(|_| AuthError::Unreadable)?.trim_matches(' ');
                if key.is_empty() { Err(AuthError::Unreadable) } else { Ok(Self::Opaque(key)) }
            }
            _ => Err(AuthError::Ambiguous),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(
        authorization: &'a [&'a [u8]],
        api_key: &'a [&'a [u8]],
    ) -> Result<Presented<'a>, AuthError> {
        Presented::read(&Credentials { authorization, api_key })
    }

    #[test]
    fn one_credential_is_told_from_another() {
        use Presented::{Nothing, Opaque, Token};
        assert_eq!(read(&[], &[]), Ok(Nothing));
        assert_eq!(read(&[b"Bearer a.b.c"], &[]), Ok(Token("a.b.c")));
        assert_eq!(read(&[b"bEARER  a.b"], &[]), Ok(Token("a.b")));
        assert_eq!(read(&[b"Bearer abc"], &[]), Ok(Opaque("abc")));
        assert_eq!(read(&[], &[b"abc"]), Ok(Opaque("abc")));
    }

    #[test]
    fn two_credentials_and_what_is_none_are_refused() {
        let bearer = &b"Bearer a"[..];
        for refused in
            [read(&[bearer, bearer], &[]), read(&[bearer], &[b"a"]), read(&[], &[b"a", b"a"])]
        {
            assert_eq!(refused, Err(AuthError::Ambiguous));
        }
        for other in [&b"Basic YTpi"[..], b"Bearer", b"DPoP a.b.c", b"", b"a.b.c"] {
            assert_eq!(read(&[other], &[]), Err(AuthError::Scheme));
        }
        for broken in
            [&b"Bearer "[..], b"Bearer a, Bearer b", b"Bearer a b", b"Bearer \xff", b"Bearer a\tb"]
        {
            assert_eq!(read(&[broken], &[]), Err(AuthError::Unreadable));
        }
        assert_eq!(read(&[], &[b""]), Err(AuthError::Unreadable));
        assert_eq!(read(&[], &[b"\xff"]), Err(AuthError::Unreadable));
    }
}
