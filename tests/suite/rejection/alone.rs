//! What is in the way of a note is in nobody else's, and a note does not go before what it hides is back.

use super::{SAFETY, image, is_clean, note, note_path, path, seen, set};
use crate::harness::Server;

const EVIDENCE: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.1"])];

async fn execute(server: &Server, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&mut server.superuser().await).await.unwrap();
}

#[tokio::test]
async fn a_note_that_cannot_be_applied_takes_nothing_with_it() {
    let server = Server::start().await;
    execute(
        &server,
        "CREATE FUNCTION in_the_way() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$;
        CREATE TRIGGER in_the_way BEFORE INSERT ON rejection EXECUTE FUNCTION in_the_way();",
    )
    .await;
    let rejection = note("1.2.1.9.1", SAFETY, &EVIDENCE).file();
    let files = [image(1).file(), rejection.clone(), image(2).file()];
    server.store("/studies", &files).await.is(202);
    assert_eq!(seen(&server).await.0, set(["1.2.1.1.1", "1.2.1.0.2"]));
    execute(&server, "DROP TRIGGER in_the_way ON rejection").await;
    server.store("/studies", &[rejection]).await.is(200);
    assert_eq!(seen(&server).await.0, set(["1.2.1.0.2", "1.2.1.9.1"]));
    is_clean(&server).await;
}

#[tokio::test]
async fn a_note_stays_until_what_it_hides_is_back() {
    let server = Server::start().await;
    server.store("/studies", &[image(1).file()]).await.is(200);
    server.store("/studies", &[note("1.2.1.9.1", SAFETY, &EVIDENCE).file()]).await.is(200);
    // As if its removal was begun: no row may name its blob.
    execute(&server, "UPDATE blob_removal SET attempts = 1").await;
    server.delete(&note_path("1.2.1.9.1")).await.problem(503);
    assert_eq!(seen(&server).await.0, set(["1.2.1.9.1"]));
    let hidden = "SELECT count(*) FROM deleted_instance WHERE restorable_until > '9000-01-01'";
    assert_eq!(server.count(hidden).await, 1);
    execute(&server, "UPDATE blob_removal SET attempts = 0").await;
    server.delete(&note_path("1.2.1.9.1")).await.is(204);
    assert_eq!(server.get(&path(1)).await.is(200).bodies(), [image(1).file()]);
    is_clean(&server).await;
}

#[tokio::test]
async fn what_is_lost_does_not_keep_a_note() {
    let server = Server::start().await;
    server.store("/studies", &[image(1).file()]).await.is(200);
    let lost = server.blobs("microsoft.default").pop_first().unwrap();
    server.store("/studies", &[image(3).file()]).await.is(200);
    let both: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.1", "1.2.1.1.3"])];
    server.store("/studies", &[note("1.2.1.9.1", SAFETY, &both).file()]).await.is(200);
    std::fs::remove_file(&lost).unwrap();
    server.delete(&note_path("1.2.1.9.1")).await.is(204);
    assert_eq!(seen(&server).await.0, set(["1.2.1.1.3"]));
    server.get(&path(1)).await.problem(410);
    let notes = server.count("SELECT count(*) FROM rejection").await;
    assert_eq!((notes, server.blobs("microsoft.default").contains(&lost)), (0, false));
}
