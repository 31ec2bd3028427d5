//! Two partitions to be attacked, and what one of them holds.

use super::matrix::{DELETED, LIVE, SETTINGS, UNUSED, Uids};
use crate::harness::{Answer, Client, Dicom, Server, until};

/// Two partitions: `north` with data live and deleted, `south` with something of its own.
pub async fn north_and_south() -> Server {
    let server = Server::with(&SETTINGS).await;
    for uids in [LIVE, DELETED] {
        server.store("/partitions/north/studies", &[uids.file("THEIRS")]).await.is(200);
    }
    server.delete(&DELETED.fill("/partitions/north/studies/{study}")).await.is(204);
    server.get(&DELETED.fill("/partitions/north/studies/{study}")).await.problem(410);
    tags(&server).await;
    workitem(&server).await;
    for (webhook, is_live) in [(LIVE.webhook, true), (DELETED.webhook, false)] {
        super::webhooks::add(&server, webhook, is_live).await;
        super::access::add(&server, webhook, is_live).await;
    }
    commitments(&server).await;
    palettes(&server).await;
    let own = Dicom::ct("1.2.9", "1.2.9.1", "1.2.9.1.1").file();
    server.store("/partitions/south/studies", &[own]).await.is(200);
    server
}

/// A workitem of `north`.
async fn workitem(server: &Server) {
    let path = LIVE.fill("/partitions/north/workitems?{instance}");
    let item = crate::worklist::workitem("THEIRS", "20260101");
    server.post(&path, "application/dicom+json", item.to_string().into_bytes()).await.is(201);
    // Somebody watches it, and all others.
    for watched in [LIVE.instance, "1.2.840.10008.5.1.4.34.5"] {
        let path = format!("/partitions/north/workitems/{watched}/subscribers/AE");
        server.post(&path, "application/json", Vec::new()).await.is(201);
    }
}

/// An extended query tag of `north` alone, and one that it had, both with an error, and operations
/// whose ids are known.
async fn tags(server: &Server) {
    let bad = Dicom::ct("1.2.50", "1.2.50.1", "1.2.50.1.1").text(0x0010, 0x1010, "AS", "X").file();
    server.store("/partitions/north/studies", &[bad]).await.is(200);
    let path = "/partitions/north/extendedquerytags";
    for uids in [LIVE, DELETED] {
        let body = format!(r#"[{{"path":"{}","level":"study"}}]"#, uids.tag);
        server.post(path, "application/json", body.into_bytes()).await.is(202);
        let tag = format!("{path}/{}", uids.tag);
        until("the tag is ready", async || server.get(&tag).await.json()["status"] == "ready")
            .await;
    }
    let deleted = format!("{path}/{}", DELETED.tag);
    server.delete(&deleted).await.is(204);
    until("the tag is gone", async || server.get(&deleted).await.status == 404).await;
    let mut conn = server.superuser().await;
    for uids in [LIVE, DELETED] {
        let name = "UPDATE operation SET operation_id = $1::text::uuid WHERE $2 = ANY(resources)";
        let named = sqlx::query(name).bind(uids.operation).bind(uids.tag).execute(&mut conn).await;
        assert_eq!(named.unwrap().rows_affected(), 1);
        let path = UNUSED.fill("/partitions/north/operations/");
        server.get(&format!("{path}{}", uids.operation)).await.is(200);
    }
}

/// The file of a color palette, with a value that its metadata names by URI: at the path that attacks
/// ask for.
fn palette(uids: Uids) -> Vec<u8> {
    let mut palette = Dicom::item();
    palette
        .text(0x0008, 0x0016, "UI", "1.2.840.10008.5.1.4.39.1")
        .text(0x0008, 0x0018, "UI", uids.instance)
        .text(0x0070, 0x0080, "CS", "THEIRS")
        .bytes(0x7FE0, 0x0010, "OB", &[7; 4096]);
    palette.file()
}

/// A color palette of `north`, and one that it had.
async fn palettes(server: &Server) {
    for uids in [LIVE, DELETED] {
        server.store("/partitions/north/color-palettes", &[palette(uids)]).await.is(202);
        let path = uids.fill("/partitions/north/color-palettes/{instance}");
        server.get(&path).await.is(200);
        server.get(&format!("{path}/bulkdata/7FE00010")).await.is(200);
    }
    server.delete(&DELETED.fill("/partitions/north/color-palettes/{instance}")).await.is(204);
}

/// A request for storage commitment that `north` can have the result of, and one that it had.
async fn commitments(server: &Server) {
    for uids in [LIVE, DELETED] {
        let path = uids.fill("/partitions/north/commitment-requests/{transaction}");
        let body = uids.fill(
            r#"{"00081199":{"vr":"SQ","Value":[{
                "00081150":{"vr":"UI","Value":["1.2.840.10008.5.1.4.1.1.2"]},
                "00081155":{"vr":"UI","Value":["{instance}"]}}]}}"#,
        );
        let answer = server.post(&path, "application/dicom+json", body.into_bytes()).await;
        assert!([200, 202].contains(&answer.status), "{}", answer.text());
        until("it is checked", async || server.get(&path).await.status == 200).await;
    }
    let old = "UPDATE commitment SET ended_at = now() - interval '8 days'
        WHERE transaction_uid = '1.2.52'";
    sqlx::query(old).execute(&mut server.superuser().await).await.unwrap();
    let path = DELETED.fill("/partitions/north/commitment-requests/{transaction}");
    server.get(&path).await.problem(410);
}

/// What `north` holds, in every way it can be looked at.
pub async fn north(server: &Server) -> (Vec<Answer>, Vec<String>) {
    north_as(server, server).await
}

/// The same, as a client may see it.
pub async fn north_as(client: &Client, server: &Server) -> (Vec<Answer>, Vec<String>) {
    let mut answers = Vec::new();
    for path in [
        "/partitions/north/studies",
        "/partitions/north/instances?includefield=all",
        "/partitions/north/studies/1.2.51",
        "/partitions/north/studies/1.2.51/metadata",
        "/partitions/north/extendedquerytags",
        "/partitions/north/extendedquerytags/00101010/errors",
        "/partitions/north/operations",
        "/partitions/north/removals",
        "/partitions/north/workitems?includefield=all",
        "/partitions/north/workitems/1.2.51.1.1",
        "/partitions/north/webhooks",
        "/partitions/north/webhooks/00000000000000000000000000000151/deadletters",
        "/partitions/north/principals",
        "/partitions/north/roles",
        "/partitions/north/apikeys",
        "/partitions/north/policy",
        "/partitions/north/revocations",
        "/partitions/north/commitment-requests/1.2.51",
        "/partitions/north/color-palettes?includefield=all",
        "/partitions/north/color-palettes/1.2.51.1.1",
        "/partitions/north/changefeed",
        "/partitions/north/changefeed/latest",
        "/partitions/north/studies/1.2.51/series/1.2.51.1/instances/1.2.51.1.1/frames/1",
    ] {
        answers.push(client.get(path).await.is(200));
    }
    let blobs = server.blobs("north").iter().map(|path| path.display().to_string()).collect();
    (answers, blobs)
}
