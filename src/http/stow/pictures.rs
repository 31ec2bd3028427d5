//! Pixel data that comes as a PNG or GIF file, and is stored native (PS3.18 Table 10.5.2-1).

use bytes::Bytes;

use super::{
    live::{Live, Stop},
    payload::{Refusal, media_type},
    waiting::{Held, Instance, Waiting},
};
use crate::{
    archive::StoreSession,
    codec::pictures::{decode, takes},
    http::multipart::{PartHead, PartReader},
};

/// Replaces such a file, where the pixel data of an instance (the value at `at`) is one, by its
/// frames, and fills in what they say.
pub(super) async fn transform(
    instance: &mut Instance,
    at: usize,
    part: &mut Option<(usize, Live)>,
    reader: &mut PartReader,
    waiting: &mut Waiting,
    session: &mut StoreSession,
) -> Result<(), Stop> {
    let Some(place) = instance.places.get(at).cloned() else { return Ok(()) };
    let held = instance
        .held
        .get_mut(at)
        .filter(|held| held.front().is_some_and(|held| takes(media_type(&held.head))));
    let is_live =
        part.as_ref().is_some_and(|(of, live)| *of == at && takes(media_type(&live.head)));
    let mut live = match (held.and_then(|held| held.pop_front()), is_live) {
        (Some(held), _) => Live::of_held(held),
        (None, true) => match part.take() {
            Some((_, live)) => live,
            None => return Ok(()),
        },
        (None, false) => return Ok(()),
    };
    if let Err(stop) = live.read_all(reader, waiting, session).await {
        live.release(waiting);
        return Err(stop);
    }
    let Held { head, chunks, length } = live.into_held();
    let media_type = media_type(&head).to_owned();
    // What it becomes is known when it is there.
    let room = waiting.staged.left();
    if let Err(none) = waiting.staged.hold(room).await {
        waiting.staged.give_back(length);
        return Err(none.into());
    }
    let most = usize::try_from(room / 2).unwrap_or(usize::MAX);
    let decoded =
        tokio::task::spawn_blocking(move || decode(&media_type, &chunks.first(usize::MAX), most));
    let decoded = decoded.await;
    waiting.staged.give_back(room + length);
    let Ok(Ok(frames)) = decoded else {
        return Err(Refusal::mismatch(&place, "is damaged, or too large to be decoded").into());
    };
    instance
        .composition
        .describe_frames(&frames.description, frames.count)
        .map_err(Refusal::from)?;
    let length = frames.data.len() as u64;
    waiting.staged.hold(length).await?;
    let head = PartHead { headers: Default::default(), content_type: None };
    if let Some(held) = instance.held.get_mut(at) {
        held.push_front(Held { head, chunks: Bytes::from(frames.data).into(), length });
    }
    Ok(())
}
