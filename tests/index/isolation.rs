//! Who sees what: nobody without a scope, nothing foreign with one.

use std::time::Duration;

use collimator::{
    dicom::{VR, attributes::Level, index::NonPatient, ups::Keys},
    index::{
        DamageNote, Db, DeadLetter, FeedAction, GlobalWatch, KeySettings, LinkSecret, NewBlob,
        NewInstance, NewMember, NewNonPatient, NewRevocation, Reference, Replaced, Revision,
        RevocationKind, SecretHash, Shared, Stored, TENANT_TABLES, WatchKind, WebhookSecret,
        WebhookSettings, composed_id,
    },
    tenancy::{Permissions, Policy, PrincipalKind},
};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use crate::{
    data::{Sample, store, study},
    postgres::{Database, scope},
    query_tags::add_tag,
    rejection::reject,
};

/// A database in which each tenant table holds rows of partitions `a` and `b`.
async fn two_partitions() -> Database {
    let it = Database::new().await;
    for partition in ["a", "b"] {
        add_webhook(&it.db, partition).await;
        add_link_key(&it.db, partition).await;
        it.db.pseudonym_key(&scope(partition)).await.unwrap();
        add_non_patient(&it.db, partition).await;
        add_workitem(&it.db, partition).await;
        add_access(&it.db, partition).await;
        crate::audit::fill(&it.db, partition).await;
        add_tag(&it.db, partition, "00101010", VR::AS, Level::Study).await;
        let ages = ["041Y", "no age"]
            .map(|age| format!(r#"{{"00101010":{{"vr":"AS","Value":["{age}"]}}}}"#));
        let aged = [(0, &ages[0]), (1, &ages[1])];
        let aged = aged.map(|(n, json)| Sample::new(4, 1, n).json(json));
        store(&it.db, partition, &aged).await;
        let batch = [Sample::new(1, 1, 1), Sample::new(1, 2, 2), Sample::new(2, 1, 1)];
        store(&it.db, partition, &batch).await;
        let mut tx = it.db.begin_in(&scope(partition)).await.unwrap();
        tx.delete(&study(2), std::time::Duration::ZERO).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = it.db.begin_in(&scope(partition)).await.unwrap();
        tx.scrub_claim(Uuid::new_v4(), Duration::ZERO, "{}").await.unwrap();
        let (kind, subject, description) = ("bytes_differ", "it".to_owned(), "it".to_owned());
        let note = DamageNote { kind, subject, watermark: None, blob: None, description };
        tx.damage_note(&[note]).await.unwrap();
        tx.commit().await.unwrap();
        store(&it.db, partition, &[Sample::new(3, 1, 1)]).await;
        let mut tx = it.db.begin_in(&scope(partition)).await.unwrap();
        tx.delete(&study(3), std::time::Duration::ZERO).await.unwrap();
        tx.commit().await.unwrap();
        store(&it.db, partition, &[Sample::new(5, 1, 1)]).await;
        let mut tx = it.db.begin_in(&scope(partition)).await.unwrap();
        tx.erase(&study(5), uuid::Uuid::new_v4(), "/studies/1.2.5").await.unwrap();
        tx.commit().await.unwrap();
        add_version(&it.db, partition).await;
        reject(&it.db, partition, &Sample::new(7, 1, 1), &["1.2.7.2.1"]).await;
    }
    let mut conn = it.superuser().await;
    for table in TENANT_TABLES {
        for partition in ["a", "b"] {
            assert!(
                rows_of(&mut conn, table, partition).await > 0,
                "{table} has none of {partition}"
            );
        }
    }
    it
}

/// An instance that replaced its first version.
async fn add_version(db: &Db, partition: &str) {
    let sample = Sample::new(6, 1, 1);
    let stored = store(db, partition, std::slice::from_ref(&sample)).await;
    let [Stored::New { watermark }] = stored[..] else { panic!("{stored:?}") };
    let shared = Shared { original: watermark, head: 300, at: 400 };
    let (blob, mut sample) = (NewBlob { id: composed_id(), length: 300 }, sample.other_bytes());
    sample.length -= 100;
    let mut tx = db.begin_in(&scope(partition)).await.unwrap();
    tx.update_blobs(&[blob.id]).await.unwrap();
    tx.commit().await.unwrap();
    let metadata = sample.metadata();
    let new = NewInstance {
        blob: blob.id,
        indexed: &sample.indexed,
        metadata: &metadata,
        offset: 0,
        length: sample.length,
        sha256: sample.sha256,
        received: None,
        rejects: None,
    };
    let revision = Revision { replaces: watermark, new, shared: Some(shared) };
    let mut tx = db.begin_store(&scope(partition)).await.unwrap();
    let replaced = tx.study_replace((&study(6), None), &[blob], &[revision], Duration::ZERO).await;
    assert_eq!(replaced.unwrap(), Replaced::Done(vec![watermark]));
    tx.commit().await.unwrap();
}

/// A key of signed URLs.
async fn add_link_key(db: &Db, partition: &str) {
    let mut tx = db.begin_links(&scope(partition)).await.unwrap();
    tx.link_key_create(Uuid::new_v4(), &LinkSecret::generate()).await.unwrap();
    tx.commit().await.unwrap();
}

/// A Non-Patient Instance, and a request for storage commitment.
async fn add_non_patient(db: &Db, partition: &str) {
    let uid = |text: &str| text.parse().unwrap();
    let indexed = NonPatient {
        transfer_syntax: uid("1.2.840.10008.1.2.1"),
        sop_class: uid("1.2.840.10008.5.1.4.39.1"),
        instance: uid("1.2.7"),
        data_set_offset: 300,
        has_preamble: true,
        metadata: Vec::new(),
        bulk: Vec::new(),
        warnings: Vec::new(),
    };
    let (category, metadata) = ("color-palettes", &b"{}"[..]);
    let (length, sha256) = (1000, [0; 32]);
    let new = NewNonPatient { category, indexed: &indexed, metadata, length, sha256 };
    let mut tx = db.begin_in(&scope(partition)).await.unwrap();
    assert!(tx.non_patient_create(NewBlob { id: Uuid::new_v4(), length }, &new).await.unwrap());
    let (sop_class, instance) = ("1.2.840.10008.5.1.4.39.1".to_owned(), "1.2.7".to_owned());
    let reference = Reference { parents: None, sop_class, instance };
    assert!(tx.commitment_add("1.2.8", &[reference]).await.unwrap());
    tx.commit().await.unwrap();
}

async fn add_workitem(db: &Db, partition: &str) {
    let keys = Keys { start: "20240101120000".to_owned(), patient_id: Some("P1".to_owned()) };
    let (uid, title) = ("1.2.9".parse().unwrap(), "AE".parse().unwrap());
    let mut tx = db.begin_worklist(&scope(partition)).await.unwrap();
    assert!(tx.workitem_create(&uid, &keys, "{}").await.unwrap());
    assert!(tx.workitem_subscriber_ensure(&title, 1).await.unwrap());
    let (aetitle, kind) = ("AE".to_owned(), WatchKind::All);
    let watch = GlobalWatch { aetitle, kind, has_lock: true, filter: None };
    tx.workitem_global_put(&watch).await.unwrap();
    tx.workitem_subscribe(&uid, &title, true).await.unwrap();
    let subscribers = tx.workitem_subscribers(&uid).await.unwrap();
    tx.workitem_events_add(&subscribers, &[(uid.as_str(), None)], 9).await.unwrap();
    tx.commit().await.unwrap();
}

/// A principal, a role, an API key, a policy and a revocation.
async fn add_access(db: &Db, partition: &str) {
    let who = NewMember {
        kind: PrincipalKind::User,
        issuer: "https://issuer.example".to_owned(),
        subject: "alice".to_owned(),
        name: None,
        roles: Vec::new(),
    };
    let settings = KeySettings {
        name: String::new(),
        roles: vec!["reader".into()],
        permissions: Permissions::NONE,
        expires_at: None,
        is_disabled: false,
    };
    let revocation = NewRevocation {
        kind: RevocationKind::Session,
        issuer: "https://issuer.example".to_owned(),
        value: "1".to_owned(),
        expires_at: None,
    };
    let mut tx = db.begin_access(&scope(partition)).await.unwrap();
    assert!(tx.principal_add(Uuid::new_v4(), &who).await.unwrap());
    tx.role_put("night", Permissions::NONE, "").await.unwrap();
    let kept = ("cmk_", SecretHash([7; 32]));
    tx.key_add(Uuid::new_v4(), &settings, kept, "somebody").await.unwrap();
    tx.policy_put(&Policy::default(), "somebody").await.unwrap();
    tx.revocation_add(&revocation).await.unwrap();
    tx.commit().await.unwrap();
}

/// A webhook with a dead letter.
async fn add_webhook(db: &Db, partition: &str) {
    let settings = WebhookSettings {
        url: "https://hooks.example/".to_owned(),
        description: String::new(),
        actions: vec![FeedAction::Create],
        is_enabled: true,
    };
    let letter = DeadLetter {
        first: 1,
        last: 1,
        events: 1,
        reason: "timeout".to_owned(),
        status: None,
        attempts: 1,
        first_attempt_at: None,
        failed_at: None,
        is_to_replay: false,
    };
    let mut tx = db.begin_webhooks(&scope(partition)).await.unwrap();
    let id = Uuid::new_v4();
    tx.webhook_create(id, &settings, &WebhookSecret::generate(), 0).await.unwrap();
    tx.dead_letter_create(id, &letter).await.unwrap();
    tx.commit().await.unwrap();
}

async fn rows_of(conn: &mut PgConnection, table: &str, partition: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table} WHERE partition_id = '{partition}'");
    sqlx::query(AssertSqlSafe(sql)).fetch_one(conn).await.unwrap().get(0)
}

/// Runs `sql` in a transaction that is taken back; answers how many rows it touched, or SQLSTATE.
async fn attempt(conn: &mut PgConnection, open: &str, sql: &str) -> Result<u64, String> {
    sqlx::raw_sql(AssertSqlSafe(open)).execute(&mut *conn).await.unwrap();
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *conn).await;
    sqlx::raw_sql("ROLLBACK").execute(&mut *conn).await.unwrap();
    match done {
        Ok(done) => Ok(done.rows_affected()),
        Err(error) => {
            let code = error.as_database_error().and_then(|error| error.code());
            Err(code.expect("an error of the database").into_owned())
        }
    }
}

/// Statements that try to reach rows of partition `b` in `table`, and all rows.
fn attacks(table: &str) -> Vec<String> {
    vec![
        format!("SELECT * FROM {table} WHERE partition_id = 'b'"),
        format!("DELETE FROM {table} WHERE partition_id = 'b'"),
        format!("UPDATE {table} SET partition_id = partition_id WHERE partition_id = 'b'"),
        format!("UPDATE {table} SET partition_id = 'b'"),
        format!("INSERT INTO {table} {} FROM {table}_copy", own_columns(table)),
    ]
}

/// The columns of a table that can be written, for an INSERT of a copy of it.
fn own_columns(table: &str) -> String {
    let written = match table {
        "study" => "partition_id, study_key, study_instance_uid, attributes",
        _ => return "OVERRIDING SYSTEM VALUE SELECT *".to_owned(),
    };
    format!("({written}) OVERRIDING SYSTEM VALUE SELECT {written}")
}

/// Copies of what partition `b` has, outside the fence, to be inserted by an attacker.
async fn copies(conn: &mut PgConnection) {
    for table in TENANT_TABLES {
        let sql = format!(
            "CREATE TABLE {table}_copy AS SELECT * FROM {table} WHERE partition_id = 'b';
             GRANT SELECT ON {table}_copy TO collimator_tenant, collimator_registry"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *conn).await.unwrap();
    }
}

#[tokio::test]
async fn the_tenant_role_reaches_its_scope_and_nothing_else() {
    let it = two_partitions().await;
    copies(&mut it.superuser().await).await;
    // Even with every right on the tables, the policy alone must hold.
    let mut conn = it.superuser().await;
    for grant in [None, Some("GRANT ALL ON ALL TABLES IN SCHEMA public TO collimator_tenant")] {
        if let Some(grant) = grant {
            sqlx::raw_sql(grant).execute(&mut conn).await.unwrap();
        }
        let mut app = it.raw().await;
        let role = "BEGIN; SET LOCAL ROLE collimator_tenant";
        for open in [
            role.to_owned(),
            format!("{role}; SET LOCAL collimator.scope = ''"),
            format!("{role}; SET LOCAL collimator.scope = 'a'"),
            format!("{role}; SET LOCAL collimator.scope = 'a,c'"),
        ] {
            for table in TENANT_TABLES {
                for sql in attacks(table) {
                    // Updates of one's own rows into another partition are refused, not ignored.
                    match attempt(&mut app, &open, &sql).await {
                        Ok(0) => {}
                        Err(code) if code == "42501" => {}
                        other => panic!("{open}: {sql}: {other:?}"),
                    }
                }
            }
        }
        // The attacks are real: with the right scope the same statements do touch rows.
        let open = format!("{role}; SET LOCAL collimator.scope = 'b'");
        for table in TENANT_TABLES {
            let sql = format!("SELECT * FROM {table}");
            let seen = attempt(&mut app, &open, &sql).await.unwrap();
            assert_eq!(seen as i64, rows_of(&mut conn, table, "b").await, "{table}");
        }
    }
}

#[tokio::test]
async fn a_connection_outside_the_gate_is_denied() {
    let it = two_partitions().await;
    let mut app = it.raw().await;
    for table in TENANT_TABLES.into_iter().chain(["partition", "app_login", "_sqlx_migrations"]) {
        for sql in [
            format!("SELECT count(*) FROM {table}"),
            format!("DELETE FROM {table}"),
            format!("INSERT INTO {table} DEFAULT VALUES"),
        ] {
            let open = "BEGIN; SET LOCAL collimator.scope = 'a,b'";
            assert_eq!(attempt(&mut app, open, &sql).await, Err("42501".to_owned()), "{sql}");
        }
    }
    for sql in ["CREATE TABLE public.mine ()", "CREATE TEMP TABLE mine ()", "CREATE SCHEMA mine"] {
        assert_eq!(attempt(&mut app, "BEGIN", sql).await, Err("42501".to_owned()), "{sql}");
    }
}

#[tokio::test]
async fn the_roles_keep_to_their_tables() {
    let it = two_partitions().await;
    let mut app = it.raw().await;
    let registry = "BEGIN; SET LOCAL ROLE collimator_registry; SET LOCAL collimator.scope = 'a,b'";
    for table in TENANT_TABLES.into_iter().chain(["app_login"]) {
        let sql = format!("SELECT FROM {table}");
        assert_eq!(attempt(&mut app, registry, &sql).await, Err("42501".to_owned()), "{table}");
    }
    let tenant = "BEGIN; SET LOCAL ROLE collimator_tenant; SET LOCAL collimator.scope = 'a,b'";
    for table in ["partition", "app_login", "_sqlx_migrations"] {
        let sql = format!("SELECT FROM {table}");
        assert_eq!(attempt(&mut app, tenant, &sql).await, Err("42501".to_owned()), "{table}");
    }
    // What the root defines is read by tenants, and written by none of them.
    attempt(&mut app, tenant, "SELECT FROM query_tag_root").await.unwrap();
    for sql in ["DELETE FROM query_tag_root", "UPDATE query_tag_root SET path = path"] {
        assert_eq!(attempt(&mut app, tenant, sql).await, Err("42501".to_owned()), "{sql}");
    }
}

#[tokio::test]
async fn a_scope_does_not_outlive_its_transaction() {
    let it = two_partitions().await;
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    tx.presence(&study(1)).await.unwrap();
    tx.commit().await.unwrap();
    let mut app = it.raw().await;
    sqlx::raw_sql("BEGIN; SET LOCAL collimator.scope = 'a'; COMMIT")
        .execute(&mut app)
        .await
        .unwrap();
    let after: String = sqlx::query("SELECT current_setting('collimator.scope', true)")
        .fetch_one(&mut app)
        .await
        .unwrap()
        .get(0);
    assert_eq!(after, "");
}

#[tokio::test]
async fn partitions_are_registered_once() {
    let it = Database::new().await;
    let id = "clinic1".parse().unwrap();
    let mut tx = it.db.registry().await.unwrap();
    assert!(!tx.partition_exists(&id).await.unwrap());
    assert!(tx.partition_create(&id).await.unwrap());
    assert!(!tx.partition_create(&id).await.unwrap());
    tx.commit().await.unwrap();
    let mut tx = it.db.registry().await.unwrap();
    let all = tx.partition_list().await.unwrap();
    let names: Vec<&str> = all.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(names, ["clinic1", "microsoft.default"]);
}
