//! Instances as pictures, documents and films: what a browser can show (PS3.18 §8.7.2, §8.7.4).
//!
//! Owns what kind of resource an instance is, and the work from its stored bytes to those of an
//! image: read, then decode, draw and encode as one piece of work on the codec pool. Holds: what
//! that takes in memory is reserved before it begins; work whose caller went away is dropped.
//! Absent: how pictures look ([`crate::render`]), negotiation, HTTP.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::OnceCell;

use super::{
    Archive, ArchiveError, ByteStream, CodecPool, Image, Reserved, Target, opened, pixels::Begun,
};
use crate::{
    codec::{Photometric, Raster},
    dicom::{
        Tag, Uid,
        data_set::DataSet,
        transfer_syntax::{PixelForm, TransferSyntax},
    },
    render::{
        Animation, Format, MAX_SIDE, RenderError, Renderer, Turn, View, Viewport,
        document::{self, DocumentFormat, Links},
    },
    tenancy::PartitionScope,
};

/// The version of what is drawn: another one whenever pictures of the same bytes change, so that
/// caches of clients let go of theirs.
pub const RENDERING: u32 = 1;

/// Standard SOP classes of storage begin so (PS3.4 Table B.5-1).
const STORAGE: &str = "1.2.840.10008.5.1.4.1.1.";

/// Bytes for each pixel that drawing takes beside the decoded frame: intermediate values, the
/// picture, and its encoding.
const DRAWING: u64 = 12;

/// Bytes up to which an encoded picture is not counted to the memory of frames.
const SMALL: usize = 1 << 20;

/// What kind of resource an instance is (PS3.18 §8.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image of one or more frames.
    Image,
    /// One stream of moving pictures, of this media type.
    Video(&'static str),
    /// Text, in these formats; the default first.
    Document(&'static [DocumentFormat]),
    /// How other images are to be shown.
    State,
    /// What cannot be shown.
    Other,
}

/// An instance that is to be shown. Cheap to clone.
#[derive(Clone)]
pub struct Rendering(Arc<Inner>);

struct Inner {
    archive: Archive,
    scope: PartitionScope,
    target: Target,
    image: Arc<Image>,
    kind: Kind,
    /// What a presentation state makes of it.
    look: Option<Look>,
    renderer: OnceCell<Arc<Renderer>>,
}

/// How an image is shown instead of as it says itself (see [`super::presentation`]).
#[derive(Clone)]
pub(super) struct Look {
    /// The header to draw by.
    pub header: Arc<DataSet>,
    /// The part to show: left, top, width and height in pixels of the image.
    pub region: Option<(f64, f64, f64, f64)>,
    /// How much larger than its pixels it is shown where no size is asked for.
    pub magnified: Option<f64>,
    /// Turn and mirroring.
    pub turn: Turn,
    /// Whether overlays of the image are drawn.
    pub overlays: bool,
}

impl From<RenderError> for ArchiveError {
    fn from(error: RenderError) -> Self {
        Self::Undecodable(match error {
            RenderError::Unsupported(_) => "there is no rendering of such an instance",
            RenderError::Damaged(_) => "its attributes or pixels do not fit together",
        })
    }
}

impl Archive {
    /// Opens an instance to show it.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Gone`].
    pub async fn rendering(
        &self,
        scope: PartitionScope,
        target: Target,
    ) -> Result<Rendering, ArchiveError> {
        let image = self.image(scope.clone(), target.clone()).await?;
        let kind = kind(&image);
        let image = Arc::new(image);
        let (archive, renderer) = (self.clone(), OnceCell::new());
        Ok(Rendering(Arc::new(Inner { archive, scope, target, image, kind, look: None, renderer })))
    }
}

fn kind(image: &Image) -> Kind {
    let header = image.header().root();
    let syntax = TransferSyntax::of(image.transfer_syntax());
    if document::is_document(header) {
        Kind::Document(document::formats(header))
    } else if is_state(image.sop_class()) {
        Kind::State
    } else if image.number_of_frames() == 0 {
        Kind::Other
    } else if syntax.pixels == PixelForm::Video {
        Kind::Video(syntax.media_type)
    } else {
        Kind::Image
    }
}

/// Whether a SOP class is one of texts: structured reports, encapsulated PDF and CDA.
pub(super) fn is_document(sop_class: &Uid) -> bool {
    let class = sop_class.as_str().strip_prefix(STORAGE).unwrap_or_default();
    class.starts_with("88.") || ["104.1", "104.2"].contains(&class)
}

/// Whether a SOP class is one of presentation states.
pub(super) fn is_state(sop_class: &Uid) -> bool {
    sop_class.as_str().strip_prefix(STORAGE).is_some_and(|class| class.starts_with("11."))
}

impl Rendering {
    /// The same image, as a presentation state shows it.
    pub(super) fn looking(&self, look: Look) -> Self {
        let inner = &*self.0;
        Self(Arc::new(Inner {
            archive: inner.archive.clone(),
            scope: inner.scope.clone(),
            target: inner.target.clone(),
            image: inner.image.clone(),
            kind: inner.kind,
            look: Some(look),
            renderer: OnceCell::new(),
        }))
    }

    /// What kind of resource it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub(super) fn archive(&self) -> &Archive {
        &self.0.archive
    }

    /// The stored instance.
    pub fn image(&self) -> &Image {
        &self.0.image
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// The partition that it is in.
    pub fn scope(&self) -> &PartitionScope {
        &self.0.scope
    }

    /// How many frames it has.
    pub fn frames(&self) -> u32 {
        self.0.image.number_of_frames()
    }

    /// Columns and rows of a frame.
    pub fn size(&self) -> (u32, u32) {
        let header = self.0.image.header().root();
        let side = |element| {
            let side = header.integer(Tag(0x0028, element)).unwrap_or(1);
            u32::try_from(side).unwrap_or(1).clamp(1, u32::from(u16::MAX))
        };
        (side(0x0011), side(0x0010))
    }

    /// The frame that stands for the instance, from 1: its Representative Frame Number
    /// (0028,6010), or the first.
    pub fn representative_frame(&self) -> u32 {
        self.named_frame().unwrap_or(1)
    }

    /// The frame to know the instance by at a glance: its Representative Frame Number, or the one
    /// in the middle.
    pub fn middle_frame(&self) -> u32 {
        self.named_frame().unwrap_or_else(|| self.frames().div_ceil(2).max(1))
    }

    fn named_frame(&self) -> Option<u32> {
        let named = Renderer::representative_frame(self.0.image.header().root());
        named.filter(|number| (1..=self.frames()).contains(number))
    }

    /// A frame (from 1) as the bytes of an image. `begun` says that the answer is on its way, so
    /// that it waits rather than being refused when much is to be done.
    ///
    /// # Errors
    /// [`ArchiveError::NoSuchFrame`], [`ArchiveError::Undecodable`], [`ArchiveError::TooLarge`],
    /// [`ArchiveError::Unavailable`].
    pub async fn picture(
        &self,
        frame: u32,
        view: &View,
        format: Format,
        begun: bool,
    ) -> Result<Bytes, ArchiveError> {
        let renderer = self.renderer().await?;
        let view = self.viewed(view);
        let reserved = self.reserve(frame, &view).await?;
        let admission = if begun { Begun::Yes } else { Begun::No };
        let plain = self.0.look.is_some();
        let work = move |mut raster: Raster| {
            if plain && raster.layout.photometric == Photometric::Monochrome1 {
                // The state's own polarity counts (PS3.4 §N.2.1).
                raster.layout.photometric = Photometric::Monochrome2;
            }
            renderer.draw(frame, &raster, &view)?.encode(&format)
        };
        Ok(held(self.0.image.work_on(frame, admission, work).await??, reserved, begun))
    }

    /// All frames as one animated GIF, each as long as the instance says; made while it is sent,
    /// its beginning at once.
    ///
    /// # Errors
    /// As [`Rendering::picture`].
    pub async fn animation(&self, view: &View, begun: bool) -> Result<ByteStream, ArchiveError> {
        let film = Film {
            renderer: self.renderer().await?,
            rendering: self.clone(),
            view: Arc::new(view.clone()),
            animation: None,
            next: 1,
            begun,
        };
        let stream = stream::try_unfold(film, |mut film| async move {
            let bytes = film.advance().await?;
            Ok(bytes.map(|bytes| (bytes, film)))
        });
        opened(stream.boxed()).await
    }

    /// The document in a format, with links that lead where `links` says.
    ///
    /// # Errors
    /// [`ArchiveError::Undecodable`], [`ArchiveError::TooLarge`], [`ArchiveError::Unavailable`].
    pub async fn document(
        &self,
        format: DocumentFormat,
        links: Links,
    ) -> Result<Bytes, ArchiveError> {
        let header = self.0.image.header().clone();
        let values = self.0.image.values(&document::wants(header.root(), format)).await?;
        let work = move || document::render_linked(header.root(), &values, format, &links);
        Ok(self.pool().run(self.0.scope.partition(), work).await??.into())
    }

    /// The stored stream of a video, whose first bytes have come, and its length in bytes.
    ///
    /// # Errors
    /// [`ArchiveError::NotFound`], [`ArchiveError::Gone`], [`ArchiveError::Unavailable`].
    pub async fn video(&self) -> Result<(ByteStream, u64), ArchiveError> {
        let (scope, target) = (self.0.scope.clone(), self.0.target.clone());
        let frames = self.0.archive.frames(scope, target, &[1]).await?;
        if frames.version() != self.0.image.version() {
            return Err(ArchiveError::Gone);
        }
        Ok((opened(frames.read(0)).await?, frames.length(0)))
    }

    /// The view, with what a presentation state says of it.
    fn viewed(&self, view: &View) -> View {
        let Some(look) = &self.0.look else { return view.clone() };
        let (columns, rows) = self.size();
        let region = look.region.unwrap_or((0.0, 0.0, f64::from(columns), f64::from(rows)));
        let asked = view.viewport.map(|asked| match look.turn.is_sideways() {
            true => (asked.height, asked.width),
            false => (asked.width, asked.height),
        });
        let own = || {
            let ratio = look.magnified.unwrap_or(1.0);
            // The casts saturate.
            let side = |side: f64| ((side * ratio).round() as u32).clamp(1, MAX_SIDE);
            (side(region.2), side(region.3))
        };
        let is_whole = look.region.is_none() && look.magnified.is_none() && asked.is_none();
        let (width, height) = asked.unwrap_or_else(own);
        let viewport = Viewport { width, height, region: Some(region) };
        View {
            viewport: (!is_whole).then_some(viewport),
            turn: look.turn,
            overlays: look.overlays,
            ..view.clone()
        }
    }

    fn pool(&self) -> &CodecPool {
        self.0.archive.codecs()
    }

    /// What draws the frames: made once, with the bulk values that it needs.
    async fn renderer(&self) -> Result<Arc<Renderer>, ArchiveError> {
        let make = || async {
            let header = match &self.0.look {
                Some(look) => look.header.clone(),
                None => self.0.image.header().clone(),
            };
            let values = self.0.image.values(&Renderer::wants(header.root())).await?;
            let work = move || Renderer::new(header.root(), &values);
            let renderer = self.pool().run(self.0.scope.partition(), work).await??;
            Ok::<_, ArchiveError>(Arc::new(renderer))
        };
        self.0.renderer.get_or_try_init(make).await.cloned()
    }

    /// Memory for a frame and its picture.
    async fn reserve(&self, frame: u32, view: &View) -> Result<Reserved, ArchiveError> {
        let drawing = self.picture_pixels(view).saturating_mul(DRAWING);
        let cost = self.0.image.cost(frame).await?.saturating_add(drawing);
        self.pool().reserve(self.0.scope.partition(), cost).await
    }

    /// Most pixels that a picture in this view has, or its frame, whichever is more.
    fn picture_pixels(&self, view: &View) -> u64 {
        let (columns, rows) = self.size();
        let frame = u64::from(columns).saturating_mul(u64::from(rows));
        let shown = view.viewport.as_ref().map_or(0, |viewport| {
            let (width, height) = (u64::from(viewport.width), u64::from(viewport.height));
            // Fitted into the viewport without distortion; without a region, as the frame is.
            let whole =
                |at_width: u64| at_width.saturating_mul(u64::from(rows)) / u64::from(columns);
            let fitted = match viewport.region {
                None => width.saturating_mul(whole(width).max(1).min(height)),
                Some(_) => width.saturating_mul(height),
            };
            fitted.min(width.saturating_mul(height)).min(crate::render::MAX_PIXELS)
        });
        frame.max(shown)
    }
}

/// Bytes with the memory that was reserved for them.
struct Held {
    data: Vec<u8>,
    _reserved: Reserved,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

/// Counts bytes until they are sent. What is small is let go of: a slow client must not keep the
/// memory of a whole frame from others for the sake of a few kilobytes. What was drawn ahead is let
/// go of too: it waits for the picture before it, which may wait for memory.
fn held(data: Vec<u8>, reserved: Reserved, ahead: bool) -> Bytes {
    if ahead || data.len() <= SMALL {
        return data.into();
    }
    Bytes::from_owner(Held { data, _reserved: reserved })
}

/// An animation that is being made.
struct Film {
    rendering: Rendering,
    renderer: Arc<Renderer>,
    view: Arc<View>,
    animation: Option<Animation>,
    /// The next frame, from 1.
    next: u32,
    begun: bool,
}

impl Film {
    /// The bytes of the next frame, or those after the last.
    async fn advance(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        let frame = self.next;
        if frame > self.rendering.frames() {
            return Ok(self.animation.take().map(|animation| animation.finish().into()));
        }
        let _reserved = self.rendering.reserve(frame, &self.view).await?;
        let admission = if self.begun || frame > 1 { Begun::Yes } else { Begun::No };
        let (renderer, view) = (self.renderer.clone(), self.view.clone());
        let time = Animation::frame_time(self.rendering.image().header().root());
        let before = self.animation.take();
        let work = move |raster: Raster| -> Result<_, RenderError> {
            let automatic =
                if frame == 1 { renderer.automatic_window(frame, &raster) } else { None };
            let view = match automatic {
                Some(window) if view.window.is_none() => {
                    Arc::new(View { window: Some(window), ..(*view).clone() })
                }
                _ => view,
            };
            let picture = renderer.draw(frame, &raster, &view)?;
            let mut animation = match before {
                Some(animation) => animation,
                None => Animation::new(picture.width, picture.height, picture.colour, time)?,
            };
            animation.push(&picture)?;
            let bytes = animation.take();
            Ok((animation, bytes, view))
        };
        let (animation, bytes, view) =
            self.rendering.image().work_on(frame, admission, work).await??;
        // All frames in the window of the first, so that they do not flicker.
        self.view = view;
        self.animation = Some(animation);
        self.next = frame.saturating_add(1);
        Ok(Some(bytes.into()))
    }
}

/// A label for what cannot be shown as it is: the kind of object, never what it says.
pub(super) fn label(sop_class: &Uid, kind: Kind) -> &'static str {
    let class = sop_class.as_str().strip_prefix(STORAGE).unwrap_or_default();
    let begins = |start: &str| class.starts_with(start);
    match (kind, class) {
        (Kind::Video(_), _) => "VIDEO",
        (Kind::State, _) => "PR",
        (_, "104.1") => "PDF",
        (_, "104.2") => "CDA",
        (_, "104.3") => "STL",
        (_, "104.4") => "OBJ",
        (_, "104.5") => "MTL",
        (_, "88.59") => "KO",
        _ if begins("88.") => "SR",
        _ if begins("9.1.") => "ECG",
        _ if begins("9.") => "WAVE",
        (_, "66") => "RAW",
        (_, "66.1") | (_, "66.3") => "REG",
        (_, "66.2") => "FID",
        (_, "66.4") => "SEG",
        (_, "481.3") => "STRUCT",
        (_, "481.5") | (_, "481.8") => "PLAN",
        (_, "481.2") => "DOSE",
        _ if begins("481.") => "RT",
        _ => "DICOM",
    }
}
