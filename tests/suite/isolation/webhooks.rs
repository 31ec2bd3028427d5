//! Webhooks for the attack matrix.

use crate::harness::Server;

/// Adds a webhook of `north` under a known id, disabled, with the dead letter 7; and removes it
/// again, unless it is to live.
pub async fn add(server: &Server, id: &str, is_live: bool) {
    let path = "/partitions/north/webhooks";
    let body = br#"{"url":"http://127.0.0.1:9/hook"}"#;
    let added = server.post(path, "application/json", body.to_vec()).await.is(201).json();
    let mut conn = server.superuser().await;
    let named = sqlx::query(
        "UPDATE webhook SET webhook_id = $1::text::uuid, is_enabled = false,
            disabled_because = 'request'
        WHERE webhook_id = $2::text::uuid",
    );
    let named = named.bind(id).bind(added["id"].as_str().unwrap()).execute(&mut conn).await;
    assert_eq!(named.unwrap().rows_affected(), 1);
    let dead = "INSERT INTO webhook_dead_letter (partition_id, webhook_id, last_sequence,
            first_sequence, events, reason, attempts, first_attempt_at)
        VALUES ('north', $1::text::uuid, 7, 7, 1, 'timeout', 1, now())";
    sqlx::query(dead).bind(id).execute(&mut conn).await.unwrap();
    server.get(&format!("{path}/{id}/deadletters/7")).await.is(200);
    if !is_live {
        server.delete(&format!("{path}/{id}")).await.is(204);
    }
}
