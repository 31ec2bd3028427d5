//! Rejection notes by C-STORE, and what C-FIND and C-GET know of what they hide.

use super::{
    keys,
    peer::{CT, Context, EXPLICIT, Peer, STUDY_FIND, STUDY_GET, request},
    server,
};
use crate::rejection::{KEY_OBJECTS, SAFETY, image, note};

#[tokio::test]
async fn what_a_note_names_is_hidden_and_refused() {
    let server = server(&[]).await;
    let mut peer = Peer::new(&server, "CT1", "SERVER", &[CT, KEY_OBJECTS]).await;
    for n in [1, 2] {
        let (uid, image) = (format!("1.2.1.{}.{n}", n % 2), image(n).data_set());
        assert_eq!(peer.store(&uid, &image).await.status, 0);
    }
    let named: [(&str, &str, &[&str]); 1] = [("1.2.1", "1.2.1.1", &["1.2.1.1.1"])];
    let note = note("1.2.1.9.1", SAFETY, &named).data_set();
    assert_eq!(peer.store_as(KEY_OBJECTS, "1.2.1.9.1", &note).await.status, 0);
    let again = peer.store("1.2.1.1.1", &image(1).data_set()).await;
    assert_eq!(again.status, 0x0111, "{}", again.comment);
    assert!(again.comment.contains("rejection note"), "{}", again.comment);

    peer.release().await;

    let contexts: Vec<Context<'_>> =
        [CT, STUDY_FIND, STUDY_GET].iter().map(|class| (*class, &[EXPLICIT][..])).collect();
    let request = request("CT1", "SERVER", &contexts, &[CT]);
    let mut peer = Peer::with(&server, request).await.unwrap();
    let all = [(0x0008, 0x0052, "CS", "IMAGE"), (0x0020, 0x000D, "UI", "1.2.1")];
    let of_series = |series| {
        let mut all = all.to_vec();
        all.extend([(0x0020, 0x000E, "UI", series), (0x0008, 0x0018, "UI", "")]);
        keys(&all)
    };
    let count = async |peer: &mut Peer, series: &'static str| {
        let found = peer.find(&of_series(series)).await;
        found.iter().filter(|one| one.status == 0xFF00).count()
    };
    assert_eq!(count(&mut peer, "1.2.1.1").await, 0);
    assert_eq!(count(&mut peer, "1.2.1.0").await, 1);
    assert_eq!(count(&mut peer, "1.2.1.9").await, 1);
    let mut one = all.to_vec();
    one.extend([(0x0020, 0x000E, "UI", "1.2.1.1"), (0x0008, 0x0018, "UI", "1.2.1.1.1")]);
    peer.ask(STUDY_GET, 0x0010, &keys(&one), None).await;
    let answer = peer.answer().await;
    assert_eq!(answer.counts[1].unwrap_or(0), 0, "nothing of it is sent");
    server.delete("/studies/1.2.1/series/1.2.1.9/instances/1.2.1.9.1").await.is(204);
    assert_eq!(count(&mut peer, "1.2.1.1").await, 1);
}
