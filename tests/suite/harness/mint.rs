//! Keys, and tokens signed with them: right ones, and wrong ones of every kind. Shared by the tests
//! of the server and those of `identity`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use serde_json::{Value, json};

/// RSA keys of 2048 bits, since *ring* makes none. They protect nothing.
const RSA: [&[u8]; 2] =
    [include_bytes!("../../keys/rsa-a.pk8"), include_bytes!("../../keys/rsa-b.pk8")];

/// A key that signs.
pub struct Signer {
    pub kid: String,
    pub algorithm: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    /// A new key for an algorithm; with RSA one of two that are always the same.
    pub fn new(kid: &str, algorithm: &'static str) -> Self {
        Self::numbered(kid, algorithm, 0)
    }

    /// Another key than that of [`Signer::new`].
    pub fn other(kid: &str, algorithm: &'static str) -> Self {
        Self::numbered(kid, algorithm, 1)
    }

    fn numbered(kid: &str, algorithm: &'static str, number: usize) -> Self {
        let random = SystemRandom::new();
        let rsa = |by| Pair::Rsa(RsaKeyPair::from_pkcs8(RSA[number]).unwrap(), by);
        let ec = |by, curve| {
            let made = EcdsaKeyPair::generate_pkcs8(by, &random).unwrap();
            Pair::Ec(EcdsaKeyPair::from_pkcs8(by, made.as_ref(), &random).unwrap(), curve)
        };
        let pair = match algorithm {
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "PS512" => rsa(&RSA_PSS_SHA512),
            "ES256" => ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
            "ES384" => ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
            "EdDSA" => {
                let made = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Pair::Ed(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
            }
            other => panic!("{other}"),
        };
        Self { kid: kid.to_owned(), algorithm, pair }
    }

    /// The public key, as an issuer publishes it.
    pub fn jwk(&self) -> Value {
        let (kid, alg) = (&self.kid, self.algorithm);
        match &self.pair {
            Pair::Rsa(pair, _) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                let (n, e) = (b64(public.n), b64(public.e));
                json!({ "kty": "RSA", "kid": kid, "alg": alg, "use": "sig", "n": n, "e": e })
            }
            Pair::Ec(pair, crv) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let (x, y) = (b64(x), b64(y));
                json!({ "kty": "EC", "kid": kid, "alg": alg, "use": "sig", "crv": crv, "x": x, "y": y })
            }
            Pair::Ed(pair) => {
                let x = b64(pair.public_key());
                json!({ "kty": "OKP", "kid": kid, "alg": alg, "use": "sig", "crv": "Ed25519", "x": x })
            }
        }
    }

    /// The header of a usual token.
    pub fn header(&self) -> Value {
        json!({ "alg": self.algorithm, "kid": self.kid, "typ": "at+jwt" })
    }

    /// A token.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    /// A token of texts, whatever they say, signed by this key.
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", b64(header), b64(claims));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", b64(signature))
    }

    fn signature(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair, by) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*by, &random, signed, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair, _) => pair.sign(&random, signed).unwrap().as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(signed).as_ref().to_vec(),
        }
    }

    /// What stands for the public key where somebody takes it for a secret.
    fn public_bytes(&self) -> Vec<u8> {
        self.jwk().to_string().into_bytes()
    }
}

/// A token that must not be taken, made of claims that are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// `alg: none`, with an empty signature.
    AlgNone,
    /// `alg: nOnE`.
    AlgNoneInOtherCase,
    /// HMAC with the public key as its secret.
    HmacWithPublicKey,
    /// Signed by a key of nobody, under the name of a good one.
    WrongKey,
    /// Signed by a key of nobody, under a name of nobody's.
    UnknownKid,
    /// A name of a key that would be a path.
    PathLikeKid,
    /// A name of a key that would be SQL.
    SqlLikeKid,
    /// Signed by a key that it brings along.
    OwnJwk,
    /// Signed by a key that lies where it says (`jku`, `x5u`).
    OwnJku,
    /// Another algorithm of the key's type than the signature's.
    OtherAlgorithm,
    /// An extension that has to be understood.
    Critical,
    /// A claim that stands twice.
    TwiceSubject,
    /// A header that stands twice.
    TwiceAlg,
    /// A claim changed after it was signed.
    Changed,
    /// The last byte of the signature is missing.
    Truncated,
    /// No signature.
    Unsigned,
    /// No signature and no dot before it.
    TwoParts,
    /// Five parts, as an encrypted token has.
    FiveParts,
    /// Padding, which there is none of in JWS.
    Padded,
    /// More than 16 KiB.
    Oversized,
    /// Another kind of token.
    OtherType,
    /// Its time is over.
    Expired,
    /// It has no end.
    Endless,
    /// Its time is to come.
    NotYet,
    /// It was issued in the future.
    FromTheFuture,
    /// It is meant for somebody else.
    OtherAudience,
    /// It is meant for nobody.
    NoAudience,
    /// It is somebody else's, in its own words.
    OtherIssuer,
    /// It names nobody as its issuer.
    NoIssuer,
    /// It names the issuer in another way.
    IssuerWithSlash,
    /// It is about nobody.
    NoSubject,
    /// It is bound to a key.
    Bound,
    /// It is an ID token.
    IdToken,
    /// Its claims are no object.
    NoObject,
}

impl Forgery {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::AlgNone,
        Self::AlgNoneInOtherCase,
        Self::HmacWithPublicKey,
        Self::WrongKey,
        Self::UnknownKid,
        Self::PathLikeKid,
        Self::SqlLikeKid,
        Self::OwnJwk,
        Self::OwnJku,
        Self::OtherAlgorithm,
        Self::Critical,
        Self::TwiceSubject,
        Self::TwiceAlg,
        Self::Changed,
        Self::Truncated,
        Self::Unsigned,
        Self::TwoParts,
        Self::FiveParts,
        Self::Padded,
        Self::Oversized,
        Self::OtherType,
        Self::Expired,
        Self::Endless,
        Self::NotYet,
        Self::FromTheFuture,
        Self::OtherAudience,
        Self::NoAudience,
        Self::OtherIssuer,
        Self::NoIssuer,
        Self::IssuerWithSlash,
        Self::NoSubject,
        Self::Bound,
        Self::IdToken,
        Self::NoObject,
    ];

    /// The token. `signer` is a good key, `claims` are good claims, and `now` is the time in seconds
    /// since 1970. (`UnknownKid`, `PathLikeKid` and `SqlLikeKid` make a server ask its issuer for
    /// keys, as often as it does.)
    pub fn token(self, signer: &Signer, claims: &Value, now: i64) -> String {
        let stranger = Signer::other(&signer.kid, signer.algorithm);
        let (header, good) = (signer.header(), signer.token(claims));
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let (head, payload) = signed.split_once('.').unwrap();
        let headed = |by: &Signer, name: &str, value: Value| {
            let mut header = header.clone();
            header[name] = value;
            by.sign(&header.to_string(), &claims.to_string())
        };
        let claiming = |name: &str, value: Value| signer.token(&with(claims, name, value));
        match self {
            Self::AlgNone | Self::AlgNoneInOtherCase => {
                let alg = if self == Self::AlgNone { "none" } else { "nOnE" };
                format!("{}.{payload}.", b64(json!({ "alg": alg, "typ": "JWT" }).to_string()))
            }
            Self::HmacWithPublicKey => {
                let header = json!({ "alg": "HS256", "kid": signer.kid, "typ": "JWT" });
                let signed = format!("{}.{payload}", b64(header.to_string()));
                let key = hmac::Key::new(hmac::HMAC_SHA256, &signer.public_bytes());
                format!("{signed}.{}", b64(hmac::sign(&key, signed.as_bytes())))
            }
            Self::WrongKey => stranger.token(claims),
            Self::UnknownKid => headed(&stranger, "kid", json!("nobody's")),
            Self::PathLikeKid => headed(&stranger, "kid", json!("../../../../dev/null")),
            Self::SqlLikeKid => headed(&stranger, "kid", json!("x' OR '1'='1")),
            Self::OwnJwk => headed(&stranger, "jwk", stranger.jwk()),
            Self::OwnJku => {
                let mut header = header.clone();
                header["jku"] = json!("http://127.0.0.1:9/jwks");
                header["x5u"] = json!("http://127.0.0.1:9/x5u");
                stranger.sign(&header.to_string(), &claims.to_string())
            }
            Self::OtherAlgorithm => {
                let other = match signer.algorithm {
                    "RS256" => "PS256",
                    "ES256" => "ES384",
                    _ => "ES256",
                };
                headed(signer, "alg", json!(other))
            }
            Self::Critical => headed(signer, "crit", json!(["exp"])),
            Self::TwiceSubject => {
                let text = claims.to_string();
                signer.sign(&header.to_string(), &format!("{{\"sub\":\"root\",{}", &text[1..]))
            }
            Self::TwiceAlg => {
                let text = header.to_string();
                signer.sign(&format!("{{\"alg\":\"none\",{}", &text[1..]), &claims.to_string())
            }
            Self::Changed => {
                let changed = with(claims, "sub", json!("root"));
                format!("{head}.{}.{signature}", b64(changed.to_string()))
            }
            Self::Truncated => {
                let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
                bytes.pop();
                format!("{signed}.{}", b64(bytes))
            }
            Self::Unsigned => format!("{signed}."),
            Self::TwoParts => signed.to_owned(),
            Self::FiveParts => format!("{good}.{payload}.{signature}"),
            Self::Padded => format!("{good}="),
            Self::Oversized => claiming("padding", json!("x".repeat(16 * 1024))),
            Self::OtherType => headed(signer, "typ", json!("logout+jwt")),
            Self::Expired => claiming("exp", json!(now - 3600)),
            Self::Endless => claiming("exp", Value::Null),
            Self::NotYet => claiming("nbf", json!(now + 3600)),
            Self::FromTheFuture => claiming("iat", json!(now + 3600)),
            Self::OtherAudience => claiming("aud", json!(["somebody-else"])),
            Self::NoAudience => claiming("aud", Value::Null),
            Self::OtherIssuer => claiming("iss", json!("https://id.example.org")),
            Self::NoIssuer => claiming("iss", Value::Null),
            Self::IssuerWithSlash => {
                claiming("iss", json!(format!("{}/", claims["iss"].as_str().unwrap())))
            }
            Self::NoSubject => claiming("sub", Value::Null),
            Self::Bound => claiming("cnf", json!({ "jkt": "x" })),
            Self::IdToken => claiming("at_hash", json!("x")),
            Self::NoObject => signer.sign(&header.to_string(), "[]"),
        }
    }
}

/// Claims with one changed; `null` takes it away.
pub fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    let object = claims.as_object_mut().unwrap();
    object.remove(name);
    if !value.is_null() {
        object.insert(name.to_owned(), value);
    }
    claims
}
