//! The catalog keeps the rules of the schema, and migrations and statements fit it.

use collimator::index::{
    Db, DbOptions, IndexError, TENANT_TABLES, migrate, migrate_for, registry_statements,
    scoped_statements, statements,
};
use sqlx::{ConnectOptions, Connection, Executor, Row, SqlSafeStr};

use crate::postgres::{Database, create, login_options, owner, scope};

const POLICY: &str = "(partition_id = ANY (string_to_array(current_setting('collimator.scope'::text, true), ','::text)))";

#[tokio::test]
async fn every_tenant_table_is_fenced() {
    let it = Database::new().await;
    let mut conn = it.superuser().await;
    let rows = sqlx::query(
        "SELECT c.relname::text, c.relrowsecurity, c.relforcerowsecurity,
            ARRAY(SELECT pg_get_expr(p.polqual, p.polrelid) FROM pg_policy p
                WHERE p.polrelid = c.oid AND p.polcmd = '*' AND p.polroles = '{0}'
                    AND p.polwithcheck IS NULL AND p.polpermissive),
            (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid),
            (SELECT format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' '
                    || (SELECT collname FROM pg_collation WHERE oid = a.attcollation) || ' '
                    || pg_get_expr(d.adbin, d.adrelid)
                FROM pg_attribute a JOIN pg_attrdef d
                    ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                WHERE a.attrelid = c.oid AND a.attname = 'partition_id')
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'm', 'f')
            AND c.relname NOT IN ('partition', 'archive', 'app_login', '_sqlx_migrations',
                'query_tag_root')
        ORDER BY c.relname",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let mut names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut expected = TENANT_TABLES.map(str::to_owned);
    expected.sort();
    names.sort();
    assert_eq!(names, expected, "a new table is a tenant table until it is named above");
    for row in rows {
        let table: String = row.get(0);
        assert!(row.get::<bool, _>(1), "{table}: row-level security is off");
        assert!(row.get::<bool, _>(2), "{table}: row-level security is not forced");
        assert_eq!(row.get::<Vec<String>, _>(3), [POLICY], "{table}");
        assert_eq!(row.get::<i64, _>(4), 1, "{table}: another policy widens the first");
        let column: Option<String> = row.get(5);
        assert_eq!(column.as_deref(), Some("text true C 'microsoft.default'::text"), "{table}");
    }
}

#[tokio::test]
async fn partition_id_comes_first_everywhere() {
    let it = Database::new().await;
    let mut conn = it.superuser().await;
    let rows = sqlx::query(
        "SELECT i.indexrelid::regclass::text, a.attname::text
        FROM pg_index i
        JOIN pg_class c ON c.oid = i.indrelid
        LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE c.relname = ANY($1)
        UNION ALL
        SELECT k.conname::text, a.attname::text
        FROM pg_constraint k
        JOIN pg_class c ON c.oid = k.conrelid
        LEFT JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
        WHERE c.relname = ANY($1) AND k.contype IN ('p', 'u', 'f', 'x')
        UNION ALL
        SELECT k.conname::text || ' (target)', a.attname::text
        FROM pg_constraint k
        JOIN pg_class c ON c.oid = k.conrelid
        LEFT JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = k.confkey[1]
        WHERE c.relname = ANY($1) AND k.contype = 'f'",
    )
    .bind(TENANT_TABLES.map(str::to_owned).to_vec())
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert!(rows.len() > 40, "{}", rows.len());
    for row in rows {
        let (name, first): (String, Option<String>) = (row.get(0), row.get(1));
        assert_eq!(first.as_deref(), Some("partition_id"), "{name}");
    }
}

#[tokio::test]
async fn every_statement_fits_the_schema_and_the_grants() {
    let it = Database::new().await;
    let mut conn = it.raw().await;
    let mut names = std::collections::BTreeSet::new();
    for (role, list) in [
        ("SET ROLE collimator_tenant", statements().collect::<Vec<_>>()),
        ("SET ROLE collimator_tenant", scoped_statements().collect()),
        ("SET ROLE collimator_registry", registry_statements().collect()),
    ] {
        sqlx::raw_sql(role).execute(&mut conn).await.unwrap();
        for sql in list {
            let name = sql.lines().next().and_then(|line| line.strip_prefix("-- "));
            assert!(names.insert(name.expect(sql)), "two statements named {name:?}");
            conn.prepare(sqlx::AssertSqlSafe(sql).into_sql_str())
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
            // Preparing checks names and types; explaining checks grants as well.
            let bound = (1..=40).rev().find(|n| sql.contains(&format!("${n}"))).unwrap_or(0);
            let nulls = vec!["NULL"; bound].join(", ");
            let arguments = if bound == 0 { String::new() } else { format!("({nulls})") };
            let explain =
                format!("PREPARE it AS {sql}; EXPLAIN EXECUTE it{arguments}; DEALLOCATE it");
            sqlx::raw_sql(sqlx::AssertSqlSafe(explain))
                .execute(&mut conn)
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }
    // No statement may stand outside the lists, but for those put together for a search and those
    // that come before there is a gate.
    let open = [
        "search_keys",
        "search_keys_plain",
        "search_probe",
        "search_round",
        "search_set",
        "search_count",
        "search_first_names",
        "search_few",
        "search_rows",
    ];
    let before = ["login_examine", "login_find", "login_read", "login_write"];
    for file in std::fs::read_dir("src/index").unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        for opening in text.split("\"-- ").skip(1) {
            let name: String =
                opening.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let listed = names.iter().any(|listed| *listed == name);
            let known = listed || open.contains(&&*name) || before.contains(&&*name);
            assert!(known || name.is_empty(), "statement {name} is not listed");
        }
    }
}

#[tokio::test]
async fn migrators_at_once_agree() {
    let name = create("").await;
    let many = (0..6).map(|_| tokio::spawn(migrate(owner(&name))));
    let logins: Vec<_> = futures::future::join_all(many).await;
    let logins: Vec<_> = logins.into_iter().map(|login| login.unwrap().unwrap()).collect();
    for login in &logins {
        assert_eq!((&login.role, &login.password), (&logins[0].role, &logins[0].password));
    }
    let again = migrate(owner(&name)).await.unwrap();
    assert_eq!(again.password, logins[0].password);
    Db::open(login_options(&name, &again), DbOptions::default()).await.unwrap();
}

#[tokio::test]
async fn databases_of_one_cluster_get_log_ins_of_their_own() {
    let names = [create("").await, create("").await, create("").await];
    let all = futures::future::join_all(names.iter().map(|name| migrate(owner(name)))).await;
    let logins: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    let roles: std::collections::BTreeSet<&str> =
        logins.iter().map(|login| login.role.as_str()).collect();
    assert_eq!(roles.len(), 3, "{roles:?}");
    // The log-in of one database is not let into another.
    let foreign = login_options(&names[0], &logins[1]).connect().await.unwrap_err();
    let code = foreign.as_database_error().and_then(|error| error.code().map(String::from));
    assert_eq!(code.as_deref(), Some("42501"), "{foreign}");
    login_options(&names[0], &logins[0]).connect().await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn unsafe_log_ins_are_refused() {
    let name = create("").await;
    migrate(owner(&name)).await.unwrap();
    let mut conn = owner(&name).connect().await.unwrap();
    let refused = Db::open(owner(&name), DbOptions::default()).await.unwrap_err();
    assert!(matches!(refused, IndexError::Unsafe(_)), "{refused:?}");
    for (role, setup) in [
        ("bypasses", "CREATE ROLE bypasses LOGIN PASSWORD 'it' NOINHERIT BYPASSRLS"),
        ("inherits", "CREATE ROLE inherits LOGIN PASSWORD 'it' INHERIT"),
        ("outsider", "CREATE ROLE outsider LOGIN PASSWORD 'it' NOINHERIT"),
        (
            "owning",
            "CREATE ROLE owning LOGIN PASSWORD 'it' NOINHERIT; ALTER TABLE blob OWNER TO owning",
        ),
    ] {
        sqlx::raw_sql(setup).execute(&mut conn).await.unwrap();
        let grants = format!("GRANT CONNECT ON DATABASE {name} TO {role}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(grants)).execute(&mut conn).await.unwrap();
        if role != "outsider" {
            let grants = format!("GRANT collimator_tenant, collimator_registry TO {role}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(grants)).execute(&mut conn).await.unwrap();
        }
        let opened =
            Db::open(owner(&name).username(role).password("it"), DbOptions::default()).await;
        assert!(matches!(opened, Err(IndexError::Unsafe(_))), "{role}: {opened:?}");
    }
}

#[tokio::test]
async fn a_database_without_schema_is_outdated_or_refused() {
    let name = create("").await;
    let login = migrate(owner(&name)).await.unwrap();
    let mut conn = owner(&name).connect().await.unwrap();
    let back = "UPDATE _sqlx_migrations SET version = 0 WHERE version = (SELECT max(version) FROM _sqlx_migrations)";
    sqlx::raw_sql(back).execute(&mut conn).await.unwrap();
    let opened = Db::open(login_options(&name, &login), DbOptions::default()).await;
    assert!(matches!(opened, Err(IndexError::Outdated)), "{opened:?}");
}

#[tokio::test]
async fn a_log_in_that_an_administrator_made_serves_as_well() {
    let name = create("").await;
    let role = format!("made_for_{name}");
    let mut conn = owner(&name).connect().await.unwrap();
    let make = format!("CREATE ROLE {role} LOGIN NOINHERIT PASSWORD 'p'");
    sqlx::raw_sql(sqlx::AssertSqlSafe(make)).execute(&mut conn).await.unwrap();
    migrate_for(owner(&name), &role).await.unwrap();
    let db = Db::open(owner(&name).username(&role).password("p"), DbOptions::default()).await;
    db.unwrap().ready().await.unwrap();
}

#[tokio::test]
async fn connections_that_were_lost_are_replaced() {
    let it = Database::new().await;
    let at = scope("a");
    let open = futures::future::join_all((0..8).map(|_| it.db.begin_in(&at))).await;
    drop(open);
    let mut conn = it.superuser().await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::raw_sql(end).execute(&mut conn).await.unwrap();
    let mut tx = it.db.begin_in(&scope("a")).await.unwrap();
    assert!(!tx.partition_in_use().await.unwrap());
    it.db.ready().await.unwrap();
}
