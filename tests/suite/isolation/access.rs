//! Principals, roles, API keys, policies and revocations for the attack matrix.

use reqwest::Method;

use crate::harness::{Server, send};

/// The name of the role that comes with an id.
pub fn role(id: &str) -> String {
    format!("role-{}", &id[id.len() - 3..])
}

/// Makes a principal, a role, an API key and a revocation of `north` under a known id, and a policy;
/// and removes them again, unless they are to live.
pub async fn add(server: &Server, id: &str, is_live: bool) {
    let within = "/partitions/north";
    let mut conn = server.superuser().await;
    for sql in [
        "INSERT INTO principal (partition_id, principal_id, kind, issuer, subject, roles)
            VALUES ('north', $1::text::uuid, 'user', 'https://issuer.example', $1, '{reader}')",
        "INSERT INTO api_key (partition_id, key_id, name, prefix, hash, roles, created_by)
            VALUES ('north', $1::text::uuid, $1, 'cmk_', sha256('x'), '{reader}', 'somebody')",
        "INSERT INTO revocation (partition_id, revocation_id, kind, issuer, value)
            VALUES ('north', $1::text::uuid, 'session', 'https://issuer.example', $1)",
        "INSERT INTO role (partition_id, name, permissions)
            VALUES ('north', 'role-' || right($1, 3), '{studies.search}')",
    ] {
        let done = sqlx::query(sql).bind(id).execute(&mut conn).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }
    let policy = r#"{"defaultRoles":["reader"],"maxTokenAge":"1h"}"#;
    let put = server.request(Method::PUT, &format!("{within}/policy")).body(policy);
    send(put).await.is(200);
    let role = role(id);
    let paths = [
        format!("{within}/principals/{id}"),
        format!("{within}/apikeys/{id}"),
        format!("{within}/roles/{role}"),
        format!("{within}/revocations/{id}"),
    ];
    for path in &paths[..3] {
        server.get(path).await.is(200);
    }
    if !is_live {
        for path in &paths {
            server.delete(path).await.is(204);
        }
    }
}
