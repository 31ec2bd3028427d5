//! Hot statements use the index that was made for them.

use collimator::{
    dicom::{attributes::Level, matching::Test},
    index::{Condition, LOOKUP_SETTINGS, SearchPlan, Within, statements},
};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::{
    data::{study_uid, uid},
    postgres::{Database, scope},
    search::{column, plan, several},
};

/// Thousands of studies in `a` and some in 20 others; two series and four instances each in `a`.
async fn filled() -> Database {
    let it = Database::new().await;
    let mut conn = it.superuser().await;
    let load = "
        CREATE TEMP TABLE s AS
            SELECT 'a'::text AS p, n FROM generate_series(1, 4000) n
            UNION ALL SELECT 'p' || q, n FROM generate_series(1, 20) q, generate_series(1, 200) n;
        INSERT INTO study (partition_id, study_instance_uid, attributes, study_date, patient_id,
                patient_name, accession_number, study_description)
            SELECT p, '1.2.' || n, '{}', to_char(date '2000-01-01' + (n * 7) % 9000, 'YYYYMMDD'),
                'P' || n % 2000, 'NAME' || n || '^X', 'A' || n, 'D' || n % 3 FROM s;
        INSERT INTO series (partition_id, study_key, series_instance_uid, attributes, modality)
            SELECT partition_id, study_key, study_instance_uid || '.' || e, '{}',
                CASE WHEN study_key % 50 = 0 AND e = 1 THEN 'PT' ELSE 'CT' END
            FROM study, generate_series(1, 2) e;
        INSERT INTO blob (partition_id, blob_id, length) SELECT DISTINCT p, p_id, 1
            FROM (SELECT p, md5(p)::uuid AS p_id FROM s) b;
        INSERT INTO instance (partition_id, study_key, series_key, sop_instance_uid,
                sop_class_uid, transfer_syntax_uid, blob_id, blob_offset, length, data_set_offset,
                sha256, attributes)
            SELECT partition_id, study_key, series_key, series_instance_uid || '.' || i,
                '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', md5(partition_id)::uuid, 0, 1,
                0, '', '{}'
            FROM series, generate_series(1, 2) i;
        INSERT INTO instance_metadata (partition_id, watermark, metadata)
            SELECT partition_id, watermark, '' FROM instance;
        INSERT INTO frame_table (partition_id, watermark, number_of_frames, native_offset,
                native_length, native_frame_bits)
            SELECT partition_id, watermark, 1, 0, 1, 8 FROM instance";
    sqlx::raw_sql(load).execute(&mut conn).await.unwrap();
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut conn).await.unwrap();
    it
}

fn assert_plan(explained: &[String], uses: &[&str], lacks: &[&str], what: &str) {
    let text = explained.join("\n");
    for used in uses {
        assert!(text.contains(used), "{what} does not use {used}:\n{text}");
    }
    for lacked in lacks {
        assert!(!text.contains(lacked), "{what} has a {lacked}:\n{text}");
    }
}

#[tokio::test]
async fn a_first_page_of_one_partition_comes_from_an_index_in_order() {
    let it = filled().await;
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    let equals = |name, value: &str| column(Level::Study, name, Test::Equals(value.to_owned()));
    let dates = Test::Range { from: Some("20100101".to_owned()), to: Some("20191231".to_owned()) };
    for (conditions, index) in [
        (vec![], "study_by_date"),
        (vec![column(Level::Study, "study_date", dates)], "study_by_date"),
        (vec![equals("patient_id", "P7")], "study_by_patient_id"),
        (vec![equals("accession_number", "A7")], "study_by_accession_number"),
        (vec![equals("patient_name", "NAME7^X")], "study_by_patient_name"),
    ] {
        let what = format!("{conditions:?}");
        let page = SearchPlan { limit: 101, ..plan(Level::Study, conditions) };
        let explained = tx.search_explain(&page).await.unwrap();
        assert_plan(&explained, &[index], &["Seq Scan", "Sort"], &what);
    }
    let prefix = Test::Like("NAME77*".to_owned());
    let name = Condition::Name { level: Level::Study, column: "patient_name", test: prefix };
    for (condition, indexes) in [
        (name, &["study_by_patient_name", "study_by_patient_name_ideographic"][..]),
        (
            Condition::ModalitiesInStudy(vec![Test::Equals("PT".to_owned())]),
            &["series_by_modality"],
        ),
        (equals("study_instance_uid", "1.2.7"), &["study_partition_id_study_instance_uid_key"]),
    ] {
        let what = format!("{condition:?}");
        let page = SearchPlan { limit: 101, ..plan(Level::Study, vec![condition]) };
        let explained = tx.search_explain(&page).await.unwrap();
        assert_plan(&explained, indexes, &["Seq Scan"], &what);
    }
}

#[tokio::test]
async fn a_search_by_an_extended_query_tag_begins_with_its_value() {
    let it = filled().await;
    let mut conn = it.superuser().await;
    let tags = "
        INSERT INTO query_tag (partition_id, tag_id, is_root, path, vr, level, operation_id, state)
            SELECT 'a', 1 + level, false, '0010101' || level, 'LO', level, gen_random_uuid(), 'ready'
            FROM generate_series(0, 2) level;
        INSERT INTO query_tag_value (partition_id, watermark, tag_id, place, owner_key, kind, value)
            SELECT partition_id, watermark, 1 + level, 0,
                CASE level WHEN 0 THEN study_key WHEN 1 THEN series_key ELSE watermark END, 0,
                'V' || study_key % 1000
            FROM instance, generate_series(0, 2) level";
    sqlx::raw_sql(tags).execute(&mut conn).await.unwrap();
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut conn).await.unwrap();
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    for (tag, level) in [(1, Level::Study), (2, Level::Series), (3, Level::Instance)] {
        for (test, many) in [
            (Test::Equals("V7".to_owned()), false),
            (Test::Like("V77*".to_owned()), false),
            (Test::AnyOf(vec!["V7".to_owned(), "V8".to_owned()]), false),
            (Test::Empty, true),
        ] {
            let what = format!("{level:?} {test:?}");
            let page = plan(level, vec![Condition::Tag { tag, level, test }]);
            let explained = tx.search_explain(&SearchPlan { limit: 101, ..page }).await.unwrap();
            let index = if many { "query_tag_value_by_owner" } else { "query_tag_value_by_value" };
            assert_plan(&explained, &[index], &["Seq Scan"], &what);
        }
    }
}

#[tokio::test]
async fn the_content_of_a_study_is_found_by_its_index() {
    let it = filled().await;
    let mut tx = it.db.begin(&scope("a")).await.unwrap();
    for (level, within) in [
        (Level::Series, Within::Study(study_uid(7))),
        (Level::Instance, Within::Study(study_uid(7))),
        (Level::Instance, Within::Series(study_uid(7), uid("1.2.7.1"))),
    ] {
        let page = SearchPlan { limit: 101, within, ..plan(level, vec![]) };
        let explained = tx.search_explain(&page).await.unwrap();
        let of_study = ["series_partition_id_study_key", "instance_by_study", "instance_by_series"];
        let text = explained.join("\n");
        assert!(of_study.iter().any(|index| text.contains(index)), "{page:?}:\n{text}");
        assert_plan(&explained, &[], &["Seq Scan"], &format!("{page:?}"));
    }
}

#[tokio::test]
async fn a_page_of_many_partitions_reads_a_little_of_each() {
    let it = filled().await;
    let names: Vec<String> = (1..=20).map(|n| format!("p{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut tx = it.db.begin(&several(&names)).await.unwrap();
    let page = SearchPlan { limit: 101, ..plan(Level::Study, vec![]) };
    let explained = tx.search_explain(&page).await.unwrap();
    // The bound that the first step found is part of the index condition.
    let bound = "ROW(study_order, study_key) >=";
    assert_plan(&explained, &["study_by_date", bound], &["Seq Scan on study"], "all studies");
    let condition = explained.iter().find(|line| line.contains(bound)).unwrap();
    assert!(condition.contains("Index Cond"), "{condition}");
}

/// On a database that was never analysed every partition seems to hold one row, and every index to
/// be as good as the right one. Plans are kept, so they must be right from the start.
#[tokio::test]
async fn lookups_find_their_index_without_statistics() {
    let it = Database::new().await;
    let mut conn = it.raw().await;
    let settings = LOOKUP_SETTINGS.join("; ").replace("SET LOCAL", "SET");
    let open = format!("SET ROLE collimator_tenant; SET collimator.scope = 'a'; {settings}");
    sqlx::raw_sql(AssertSqlSafe(open)).execute(&mut conn).await.unwrap();
    let keys = [
        "watermark",
        "_uid",
        "_key",
        "blob_id",
        "due_at",
        "tag_id",
        "operation_id",
        "created_at",
        "ended_at",
    ];
    for sql in statements().filter(|sql| !sql.contains("-- partition_in_use")) {
        let explained = explain(&mut conn, sql).await;
        assert_plan(&explained, &[], &["Seq Scan", "Sort", "Hash", "Merge"], sql);
        for condition in explained.iter().filter(|line| line.contains("Index Cond")) {
            let keyed = keys.iter().any(|key| condition.contains(key));
            assert!(keyed, "{sql} reads the whole partition:\n{}", explained.join("\n"));
        }
    }
    // The same statements with the planner's freedom do fall into the trap: if this ever fails,
    // `lookup` may be simpler than it is.
    let free = "RESET enable_sort; RESET enable_indexscan; PREPARE it AS SELECT watermark FROM instance \
                WHERE partition_id = $1 AND sop_instance_uid = $2";
    sqlx::raw_sql(free).execute(&mut conn).await.unwrap();
    let rows = sqlx::raw_sql("EXPLAIN EXECUTE it('a', '1')").fetch_all(&mut conn).await.unwrap();
    let trapped =
        rows.iter().any(|row| row.get::<&str, _>(0).contains("Filter: (sop_instance_uid"));
    assert!(trapped);
}

async fn explain(conn: &mut PgConnection, sql: &str) -> Vec<String> {
    let bound = (1..=20).rev().find(|n| sql.contains(&format!("${n}"))).unwrap_or(0);
    let nulls = vec!["NULL"; bound].join(", ");
    sqlx::raw_sql(AssertSqlSafe(format!("PREPARE it AS {sql}"))).execute(&mut *conn).await.unwrap();
    let execute = format!("EXPLAIN EXECUTE it({nulls})");
    let rows = sqlx::raw_sql(AssertSqlSafe(execute)).fetch_all(&mut *conn).await.unwrap();
    sqlx::raw_sql("DEALLOCATE it").execute(conn).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}
