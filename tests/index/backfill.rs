//! What was stored before a migration is given what it brought.

use collimator::index::{Db, DbOptions, migrate};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};

use crate::{
    data::{Sample, store},
    postgres::{create, login_options, owner},
};

/// All that the migration brought, as text.
const BROUGHT: &str = "
    SELECT concat_ws(' ', partition_id, study_key, term, study_order) FROM study_term
    UNION ALL SELECT concat_ws(' ', partition_id, series_key, item, study_key,
        scheduled_procedure_step_id, requested_procedure_id) FROM series_request
    UNION ALL SELECT concat_ws(' ', partition_id, study_key, timezone_offset, utc_offset) FROM study
    ORDER BY 1";

#[tokio::test]
async fn rows_from_before_a_migration_are_filled_in_like_new_ones() {
    let name = create("").await;
    // An owner that row-level security holds for, as on a managed database.
    let mut superuser = owner(&name).connect().await.unwrap();
    let role = format!("plain_owner_of_{name}");
    let make = format!(
        "CREATE ROLE {role} LOGIN CREATEROLE PASSWORD 'p'; ALTER DATABASE {name} OWNER TO {role};
         ALTER SCHEMA public OWNER TO {role}"
    );
    sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut superuser).await.unwrap();
    let plain = owner(&name).username(&role).password("p");
    let login = migrate(plain.clone()).await.unwrap();
    let db = Db::open(login_options(&name, &login), DbOptions::default()).await.unwrap();
    for partition in ["a", "b"] {
        let id = partition.parse().unwrap();
        let mut tx = db.registry().await.unwrap();
        tx.partition_create(&id).await.unwrap();
        tx.commit().await.unwrap();
        let zone = r#"{"00080201":{"vr":"SH","Value":["+0930"]}}"#;
        let batch: Vec<Sample> = (1..=700)
            .map(|n| Sample::new(n, n % 3, 1))
            .chain([
                Sample::new(1, 2, 2).key("modality", "US"),
                Sample::new(701, 1, 1).study_attributes(zone).key("timezone_offset", "+0930"),
                Sample::new(702, 1, 1)
                    .key("study_date", "")
                    .key("patient_name_ideographic", "\u{5c71}\u{7530}")
                    .key("referring_physician_name", "house^gregory"),
            ])
            .collect();
        store(&db, partition, &batch).await;
    }
    let mut brought = Vec::new();
    let forgotten = [
        "SELECT",
        "DELETE FROM study_term; DELETE FROM series_request; UPDATE study SET timezone_offset = NULL",
        // Broken off in the middle.
        "DELETE FROM study_term WHERE study_key % 2 = 0; DELETE FROM series_request WHERE item = 0",
        "SELECT",
    ];
    for forget in forgotten {
        let forget = format!("{forget}; UPDATE archive SET filled = 0");
        sqlx::raw_sql(AssertSqlSafe(forget)).execute(&mut superuser).await.unwrap();
        migrate(plain.clone()).await.unwrap();
        let rows = sqlx::query(BROUGHT).fetch_all(&mut superuser).await.unwrap();
        brought.push(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>());
    }
    let terms = brought[0].iter().filter(|line| line.contains("m:US")).count();
    assert_eq!(terms, 2);
    assert!(brought[0].iter().any(|line| line.ends_with("+0930 570")));
    assert!(brought[0].len() > 20_000, "{}", brought[0].len());
    for again in &brought[1..] {
        assert_eq!(*again, brought[0]);
    }
}
