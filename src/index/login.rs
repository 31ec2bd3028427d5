//! The log-in that serves: what row-level security rests on is looked at before the first request.
//!
//! Holds: a log-in that could get around the policies, or change them, is refused.

use sqlx::{PgConnection, Row};

use super::IndexError;

/// Checks what row-level security rests on; says whether the database is distributed by Citus.
pub(super) async fn refuse_what_is_unsafe(
    conn: &mut PgConnection,
    prepared: bool,
) -> Result<bool, IndexError> {
    let row = sqlx::query(
        "-- login_examine
        SELECT
            EXISTS (SELECT FROM pg_roles r
                WHERE (r.rolsuper OR r.rolbypassrls) AND pg_has_role(session_user, r.oid, 'MEMBER')),
            EXISTS (SELECT FROM pg_class c
                WHERE c.relnamespace = 'public'::regnamespace
                    AND pg_has_role(session_user, c.relowner, 'MEMBER')),
            EXISTS (SELECT FROM pg_roles r
                WHERE r.rolname IN ('collimator_tenant', 'collimator_registry')
                    AND pg_has_role(session_user, r.oid, 'USAGE')),
            (SELECT count(*) FROM pg_roles r
                WHERE r.rolname IN ('collimator_tenant', 'collimator_registry')
                    AND pg_has_role(session_user, r.oid, 'MEMBER')),
            EXISTS (SELECT FROM pg_extension WHERE extname = 'citus'),
            current_setting('citus.propagate_set_commands', true)",
    )
    .persistent(prepared)
    .fetch_one(conn)
    .await?;
    let refused = [
        (
            row.try_get(0)?,
            "its log-in is, or can become, a superuser or one that bypasses row-level security",
        ),
        (row.try_get(1)?, "its log-in owns, or can become an owner of, tables of the index"),
        (
            row.try_get(2)?,
            "its log-in inherits the rights of the application's roles (it must be NOINHERIT)",
        ),
        (
            row.try_get::<i64, _>(3)? != 2,
            "its log-in is no member of collimator_tenant and collimator_registry",
        ),
    ];
    if let Some((_, reason)) = refused.into_iter().find(|(unsafe_, _)| *unsafe_) {
        return Err(IndexError::Unsafe(reason));
    }
    let citus: bool = row.try_get(4)?;
    let propagates: Option<String> = row.try_get(5)?;
    if citus && propagates.as_deref() != Some("local") {
        // With any other value every read silently yields no rows.
        return Err(IndexError::Unsafe("citus.propagate_set_commands must be 'local'"));
    }
    Ok(citus)
}
