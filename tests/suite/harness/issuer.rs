//! An issuer of access tokens on loopback: discovery, keys, tokens right and wrong, and every kind
//! of day that an issuer can have.
//!
//! ```ignore
//! let issuer = Issuer::start().await;
//! let server = issuer::server(&[&issuer], &[]).await;
//! let token = issuer.token(json!({ "tenant_id": "north", "sub": "alice" }));
//! server.get_with("/partitions/north/studies", &[("authorization", &bearer(&token))]).await;
//! ```

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Response, StatusCode, header},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

use super::{
    mint::{Forgery, Signer, with},
    server::Server,
};

/// What tokens are meant for, unless told otherwise.
pub const AUDIENCE: &str = "urn:collimator";
/// The role, as the issuer names it, that makes an operator.
pub const OPERATOR: &str = "platform-operator";

/// How an issuer is today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// 503, whatever is asked.
    Down,
    /// It answers once [`Issuer::open`] lets one answer go.
    Slow,
    /// Answers never end.
    Endless,
    /// It says that it is somebody else.
    Impostor,
    /// It sends everybody elsewhere.
    Redirects,
    /// What it says is no JSON.
    Nonsense,
    /// Its discovery document is where RFC 8414 has it, and only there.
    Oauth,
}

struct Inner {
    name: String,
    url: String,
    keys: Mutex<Vec<Arc<Signer>>>,
    mood: Mutex<Mood>,
    gate: Semaphore,
    discoveries: AtomicUsize,
    fetches: AtomicUsize,
    minted: AtomicUsize,
}

/// An issuer. Ends with the value.
pub struct Issuer {
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Issuer {
    /// An issuer called `main` that signs with ES256.
    pub async fn start() -> Self {
        Self::named("main", "ES256").await
    }

    pub async fn named(name: &str, algorithm: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/realms/{name}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            name: name.to_owned(),
            url,
            keys: Mutex::new(vec![Arc::new(Signer::new("key-1", algorithm))]),
            mood: Mutex::new(Mood::Well),
            gate: Semaphore::new(0),
            discoveries: AtomicUsize::new(0),
            fetches: AtomicUsize::new(0),
            minted: AtomicUsize::new(0),
        });
        let router = Router::new().fallback(answer).with_state(inner.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { inner, task }
    }

    /// What it is in the configuration of a server, as a table of TOML. Partitions are in
    /// `tenant_id`, roles in `realm_access.roles`.
    pub fn settings(&self) -> String {
        self.settings_with("partition_claim = \"tenant_id\"")
    }

    /// The same with more keys, those for partitions among them.
    pub fn settings_with(&self, more: &str) -> String {
        let Inner { name, url, .. } = &*self.inner;
        format!(
            "{{ name = \"{name}\", issuer = \"{url}\", audience = \"{AUDIENCE}\", \
             roles_claim = \"realm_access.roles\", operator_roles = \"{OPERATOR}\", {more} }}"
        )
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// Good claims about somebody without partition and role, changed by these; `null` takes one
    /// away.
    pub fn claims(&self, changes: Value) -> Value {
        let number = self.inner.minted.fetch_add(1, Ordering::Relaxed);
        let now = now();
        let usual = json!({
            "iss": self.url(), "aud": AUDIENCE, "sub": "alice", "azp": "viewer", "iat": now,
            "exp": now + 3600, "jti": format!("token-{number}"), "sid": "session-1",
        });
        let changes = changes.as_object().unwrap().iter();
        changes.fold(usual, |claims, (name, value)| with(&claims, name, value.clone()))
    }

    /// A good token: [`Issuer::claims`], signed by the newest key.
    pub fn token(&self, changes: Value) -> String {
        let claims = self.claims(changes);
        self.signer().token(&claims)
    }

    /// A good token for a partition with a role.
    pub fn token_for(&self, subject: &str, partition: &str, role: &str) -> String {
        self.token(json!({
            "sub": subject, "tenant_id": partition, "realm_access": { "roles": [role] },
        }))
    }

    /// A token of an operator.
    pub fn operator(&self) -> String {
        self.token(json!({ "sub": "olga", "realm_access": { "roles": [OPERATOR] } }))
    }

    /// A wrong token, of claims that are good.
    pub fn forge(&self, forgery: Forgery, changes: Value) -> String {
        forgery.token(&self.signer(), &self.claims(changes), now())
    }

    /// The newest key.
    pub fn signer(&self) -> Arc<Signer> {
        lock(&self.inner.keys).last().unwrap().clone()
    }

    /// Publishes a new key and signs with it; those before stay published for as long as `keep` says.
    pub fn rotate(&self, keep: bool) {
        let mut keys = lock(&self.inner.keys);
        let last = keys.last().unwrap().clone();
        let number = last.kid.rsplit('-').next().unwrap().parse::<u32>().unwrap() + 1;
        if !keep {
            keys.clear();
        }
        keys.push(Arc::new(Signer::other(&format!("key-{number}"), last.algorithm)));
    }

    pub fn is(&self, mood: Mood) {
        *lock(&self.inner.mood) = mood;
    }

    /// Lets that many answers of a slow issuer go.
    pub fn open(&self, answers: usize) {
        self.inner.gate.add_permits(answers);
    }

    /// How often its discovery document was asked for, and how often its keys.
    pub fn asked(&self) -> (usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        (count(&self.inner.discoveries), count(&self.inner.fetches))
    }
}

/// A server that knows these issuers, as they describe themselves, with partitions on.
pub async fn server(issuers: &[&Issuer], settings: &[(&str, &str)]) -> Server {
    let tables: Vec<String> = issuers.iter().map(|issuer| issuer.settings()).collect();
    server_with(&tables, settings).await
}

/// A server that knows issuers by these tables.
pub async fn server_with(tables: &[String], settings: &[(&str, &str)]) -> Server {
    let list = list(tables);
    let mut all = vec![
        ("features.enable_data_partition", "true"),
        ("auth.enabled", "true"),
        ("auth.issuers", list.as_str()),
    ];
    all.extend_from_slice(settings);
    Server::with(&all).await
}

/// The value of `auth.issuers`.
pub fn list(tables: &[String]) -> String {
    format!("[{}]", tables.join(", "))
}

/// The value of `Authorization`.
pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(inner): State<Arc<Inner>>, request: Request) -> Response<Body> {
    let mood = *lock(&inner.mood);
    let realm = format!("/realms/{}", inner.name);
    let path = request.uri().path();
    let is_discovery = match mood {
        Mood::Oauth => path == format!("/.well-known/oauth-authorization-server{realm}"),
        _ => path == format!("{realm}/.well-known/openid-configuration"),
    };
    let is_keys = path == format!("{realm}/jwks");
    let counter = if is_keys { &inner.fetches } else { &inner.discoveries };
    counter.fetch_add(1, Ordering::SeqCst);
    let status = |status: StatusCode, body: Body| {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response
    };
    match mood {
        Mood::Down => return status(StatusCode::SERVICE_UNAVAILABLE, Body::empty()),
        Mood::Nonsense => return Response::new(Body::from("<html>")),
        Mood::Slow => inner.gate.acquire().await.unwrap().forget(),
        Mood::Endless => {
            let drop = Ok::<_, std::convert::Infallible>(vec![b' '; 1 << 16]);
            return Response::new(Body::from_stream(futures::stream::repeat(drop)));
        }
        Mood::Redirects if is_discovery => {
            let mut response = status(StatusCode::FOUND, Body::empty());
            let to = format!("{}/elsewhere", inner.url).parse().unwrap();
            response.headers_mut().insert(header::LOCATION, to);
            return response;
        }
        _ => {}
    }
    let url = &inner.url;
    let document = if is_keys {
        let keys: Vec<Value> = lock(&inner.keys).iter().map(|key| key.jwk()).collect();
        json!({ "keys": keys })
    } else if is_discovery {
        let issuer = if mood == Mood::Impostor { "https://id.example.org" } else { url };
        json!({ "issuer": issuer, "jwks_uri": format!("{url}/jwks") })
    } else {
        return status(StatusCode::NOT_FOUND, Body::empty());
    };
    Response::new(Body::from(document.to_string()))
}
