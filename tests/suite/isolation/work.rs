//! What an answer costs must not tell either: for what is foreign the database is asked the same, row
//! by row, as for what nobody has. (Counted and not timed: times tell of the machine as well.)
//!
//! Each statement is an event of the driver's within the span of its request, so nothing that runs
//! beside a request is counted.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, OnceLock},
};

use tracing::{
    Dispatch, Event, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

use super::{
    matrix::{DELETED, Expect, LIVE, MATRIX, SETTINGS, UNUSED, Uids, attack_on, base, carriers},
    principals::{calls, fenced},
    stage::north_and_south,
};
use crate::harness::{
    Answer,
    issuer::{Issuer, bearer},
};

/// A statement, and how many rows it answered and changed.
type Step = (String, u64, u64);

/// The statements of requests, by the requests' ids.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<BTreeMap<String, Vec<Step>>>>);

/// The id of a request, kept with its span.
struct Request(String);

#[derive(Default)]
struct Seen {
    texts: BTreeMap<&'static str, String>,
    numbers: BTreeMap<&'static str, u64>,
}

impl Visit for Seen {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.numbers.insert(field.name(), value);
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.texts.insert(field.name(), value.to_owned());
    }
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Statements {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut seen = Seen::default();
        attributes.record(&mut seen);
        if let Some(request) = seen.texts.remove("request_id") {
            context.span(id).unwrap().extensions_mut().insert(Request(request));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() != "sqlx::query" {
            return;
        }
        let Some(scope) = context.event_scope(event) else { return };
        for span in scope {
            if let Some(Request(id)) = span.extensions().get() {
                let mut seen = Seen::default();
                event.record(&mut seen);
                let text = |name| seen.texts.get(name).cloned().unwrap_or_default();
                let step = (
                    text("summary") + &text("db.statement"),
                    seen.numbers["rows_returned"],
                    seen.numbers["rows_affected"],
                );
                self.0.lock().unwrap().entry(id.clone()).or_default().push(step);
            }
        }
    }
}

impl Statements {
    /// What was asked of the database for this answer.
    fn behind(&self, answer: &Answer) -> Vec<Step> {
        self.0.lock().unwrap().remove(answer.header("x-request-id")).unwrap_or_default()
    }

    /// Counts all that happens in this thread, which is all of a test's.
    fn watch(&self) -> tracing::subscriber::DefaultGuard {
        // As long as there is but one subscriber, events that another thread meets first are off for
        // good where that thread has none.
        static SECOND: OnceLock<Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| Dispatch::new(tracing_subscriber::registry()));
        let subscriber = tracing_subscriber::registry().with(self.clone());
        tracing::subscriber::set_default(subscriber.with(LevelFilter::DEBUG))
    }
}

#[tokio::test]
async fn foreign_is_looked_for_like_what_is_absent() {
    let statements = Statements::default();
    let _watching = statements.watch();
    // What is remembered for a while would be asked now and then.
    let settings = [SETTINGS.as_slice(), &[("auth.cache", "0s")]].concat();
    let server = north_and_south().await.restart(&settings).await;
    let (mut cells, mut steps) = (0, 0);
    for (method, template) in collimator::http::routes().published() {
        let of_route =
            |(m, p, ..): &&(&str, &str, &str, Expect)| (*m, *p) == (&*method, base(&template));
        let Some((_, _, query, expect)) = MATRIX.iter().find(of_route) else { continue };
        // What is stored or added is there the next time.
        if [Expect::Stored, Expect::Added].contains(expect) {
            continue;
        }
        for carrier in carriers(&template, *expect) {
            let call = (&*method, &*template, *query);
            let behind = async |uids: Uids| {
                statements.behind(&attack_on("south", &server, call, carrier, uids).await)
            };
            // What is done once is done: events are numbered, and the partition is known to be there.
            behind(UNUSED).await;
            let absent = behind(UNUSED).await;
            for uids in [LIVE, DELETED] {
                let found = behind(uids).await;
                assert_eq!(found, absent, "{method} {template} by {carrier:?}: {}", uids.study);
                (cells, steps) = (cells + 1, steps + found.len());
            }
        }
    }
    assert!(cells > 400 && steps > 2 * cells, "{cells} cells, {steps} statements");
}

#[tokio::test]
async fn a_partition_out_of_reach_is_looked_for_like_one_that_does_not_exist() {
    let statements = Statements::default();
    let issuer = Issuer::start().await;
    let _watching = statements.watch();
    let server = fenced(&issuer).await;
    let token = issuer.token_for("sam", "south", "partition-admin");
    let south = server.with_header("authorization", &bearer(&token));
    south.get("/partitions/south/studies").await.is(200);
    let mut cells = 0;
    for call in calls() {
        let absent = statements.behind(&call.by(&south, "nowhere", UNUSED).await);
        for uids in [LIVE, UNUSED] {
            let found = statements.behind(&call.by(&south, "north", uids).await);
            assert_eq!(found, absent, "{call:?}");
            cells += 1;
        }
    }
    assert!(cells > 500, "{cells}");
    let own = statements.behind(&south.get("/partitions/south/studies").await);
    assert!(!own.is_empty(), "statements are seen");
}
