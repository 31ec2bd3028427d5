//! How a picture is wanted: the rendering parameters of a query (PS3.18 §8.3.5.1, §8.3.5.2).
//!
//! Holds: a known parameter with a bad value, or given twice, is a 400 that names the parameter and
//! the rule; unknown parameters are left alone. Pure: what a picture's own size decides is settled
//! by [`ViewQuery::view`]. Absent: drawing, and the parameters of WADO-URI ([`super::wado_uri`]),
//! which says the same in other words.

use super::problem::Problem;
use crate::render::{Annotations, Format, Function, IccProfile, View, Viewport, Window};

/// Longest side of a picture that can be asked for, in pixels.
pub(super) const MAX_SIDE: u32 = 8192;

/// Quality of lossy pictures where none is asked, 1 to 100.
pub(super) const QUALITY: u8 = 90;

/// Keywords of `annotation` that one request may have.
const MAX_KEYWORDS: usize = 16;

/// Longest keyword of `annotation`, in characters.
const MAX_KEYWORD: usize = 32;

/// What a request says about its pictures. Its `Debug` text tells one view from another.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ViewQuery {
    /// The frame to fit the picture into.
    pub size: Size,
    /// The part of the image to show.
    pub region: Region,
    /// Windowing, instead of the image's own.
    pub window: Option<Window>,
    /// What to burn in.
    pub annotations: Annotations,
    /// The colour space and profile asked for.
    pub icc: Option<IccProfile>,
    /// Quality of lossy pictures.
    pub quality: Option<u8>,
}

/// The frame that a picture is fitted into, in pixels; nothing: the size of the region.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Size {
    /// Largest width.
    pub width: Option<u32>,
    /// Largest height.
    pub height: Option<u32>,
}

/// A part of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Region {
    /// All of it.
    #[default]
    Whole,
    /// Left, top, width and height in pixels; without width or height, to the edge. A negative
    /// width or height mirrors the picture.
    Pixels([Option<f64>; 4]),
    /// Left, top, right and bottom as parts of the whole, 0 to 1.
    Parts([f64; 4]),
}

/// What a request says, and what of it is not supported.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Read {
    /// What can be followed.
    pub view: ViewQuery,
    /// Keywords of `annotation` that mean nothing here, for a `Warning`.
    pub unsupported: Vec<String>,
}

/// The parameters of a rendered resource.
///
/// # Errors
/// 400, see the module.
pub(super) fn rendered(query: &str) -> Result<Read, Problem> {
    let parameters = Parameters::of(query)?;
    let mut read = Read::default();
    let view = &mut read.view;
    if let Some(text) = parameters.get("viewport") {
        (view.size, view.region) = viewport(text)?;
    }
    view.window = parameters.get("window").map(window).transpose()?;
    view.quality = parameters.get("quality").map(|text| quality("quality", text)).transpose()?;
    view.icc = parameters.get("iccprofile").map(icc_profile).transpose()?;
    if let Some(text) = parameters.get("annotation") {
        (view.annotations, read.unsupported) = annotations("annotation", text)?;
    }
    Ok(read)
}

/// The parameters of a thumbnail: the frame to fit it into, if any.
///
/// # Errors
/// 400, see the module.
pub(super) fn thumbnail(query: &str) -> Result<Option<(u32, u32)>, Problem> {
    let parameters = Parameters::of(query)?;
    let Some(text) = parameters.get("viewport") else { return Ok(None) };
    match viewport(text)? {
        (Size { width: Some(width), height: Some(height) }, Region::Whole) => {
            Ok(Some((width, height)))
        }
        _ => Err(Problem::invalid(
            "viewport",
            "for a thumbnail a width and a height, without a region (PS3.18 §8.3.5.2)",
        )),
    }
}

impl ViewQuery {
    /// The view of an image of `columns` × `rows` pixels.
    ///
    /// # Errors
    /// 400 where the region lies outside the image.
    pub fn view(&self, columns: u32, rows: u32) -> Result<View, Problem> {
        let outside = |field| Problem::invalid(field, "a region that lies within the image");
        let (width, height) = (f64::from(columns), f64::from(rows));
        let region = match self.region {
            Region::Whole => None,
            Region::Pixels([left, top, w, h]) => {
                let (left, top) = (left.unwrap_or(0.0), top.unwrap_or(0.0));
                if left >= width || top >= height {
                    return Err(outside("viewport"));
                }
                let clip = |side: Option<f64>, rest: f64| {
                    side.map_or(rest, |side| side.abs().min(rest).copysign(side))
                };
                Some((left, top, clip(w, width - left), clip(h, height - top)))
            }
            Region::Parts([left, top, right, bottom]) => {
                let at = (left * width, top * height);
                Some((at.0, at.1, (right - left) * width, (bottom - top) * height))
            }
        };
        let (shown_width, shown_height) =
            region.map_or((width, height), |(.., w, h)| (w.abs(), h.abs()));
        let viewport = match (self.size.width, self.size.height) {
            (None, None) if region.is_none() => None,
            (None, None) => Some((whole(shown_width), whole(shown_height))),
            (width, height) => Some((width.unwrap_or(MAX_SIDE), height.unwrap_or(MAX_SIDE))),
        };
        Ok(View {
            viewport: viewport.map(|(width, height)| Viewport { width, height, region }),
            window: self.window,
            annotations: self.annotations,
            icc: self.icc.unwrap_or(IccProfile::No),
            overlays: true,
            ..View::default()
        })
    }

    /// Whether the view is more than a size: what a presentation state does not go together with
    /// (PS3.18 §8.3.5.1.3, §8.3.5.1.4), and the parameter that says so.
    pub fn overrides(&self) -> Option<&'static str> {
        match (self.window.is_some(), self.region) {
            (true, _) => Some("window"),
            (false, Region::Pixels(_) | Region::Parts(_)) => Some("viewport"),
            (false, Region::Whole) => None,
        }
    }

    /// The quality of lossy pictures.
    pub fn quality(&self) -> u8 {
        self.quality.unwrap_or(QUALITY)
    }

    /// Refuses a colour profile in a format that has no place for one (PS3.18 §8.3.5.1.5).
    ///
    /// # Errors
    /// 400.
    pub fn fits(&self, media_type: &str) -> Result<(), Problem> {
        let profile = self.icc.is_some_and(|icc| icc != IccProfile::No);
        let holds = format(media_type, QUALITY).is_some_and(Format::holds_icc);
        if profile && !holds {
            return Err(Problem::invalid(
                "iccprofile",
                "`no` for a media type that cannot hold a profile (PS3.18 §8.3.5.1.5)",
            ));
        }
        Ok(())
    }
}

/// A side in whole pixels, at least one.
fn whole(side: f64) -> u32 {
    // Sides of images are below 65,536; the cast saturates in any case.
    (side.round() as u32).clamp(1, MAX_SIDE)
}

/// The query, decoded, each name at most once.
pub(super) struct Parameters(Vec<(String, String)>);

/// Names of parameters with a meaning for pictures, here or in WADO-URI.
const NAMES: [&str; 24] = [
    "viewport",
    "window",
    "quality",
    "annotation",
    "iccprofile",
    "requestType",
    "studyUID",
    "seriesUID",
    "objectUID",
    "contentType",
    "charset",
    "anonymize",
    "transferSyntax",
    "frameNumber",
    "imageAnnotation",
    "imageQuality",
    "rows",
    "columns",
    "region",
    "windowCenter",
    "windowWidth",
    "presentationUID",
    "presentationSeriesUID",
    "accept",
];

impl Parameters {
    /// Reads a query.
    ///
    /// # Errors
    /// 400 where one of ours is given twice; `accept` may be.
    pub fn of(query: &str) -> Result<Self, Problem> {
        let mut found: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let Some(known) = NAMES.iter().find(|known| **known == name) else { continue };
            if *known != "accept" && found.iter().any(|(name, _)| name == known) {
                return Err(Problem::invalid(*known, "given once"));
            }
            found.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(found))
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// `vw,vh[,[sx],[sy],[sw],[sh]]` without commas at its end.
fn viewport(text: &str) -> Result<(Size, Region), Problem> {
    let wrong = |rule| Problem::invalid("viewport", rule);
    let values: Vec<&str> = text.split(',').collect();
    if values.len() > 6 {
        return Err(wrong("at most six values: vw,vh,sx,sy,sw,sh"));
    }
    let (Some(width), Some(height)) = (values.first(), values.get(1)) else {
        return Err(wrong("a width and a height: vw,vh"));
    };
    let (Some(width), Some(height)) = (side(width), side(height)) else {
        return Err(wrong("width and height are whole numbers from 1 to 8192"));
    };
    let size = Size { width: Some(width), height: Some(height) };
    let Some(rest) = values.get(2..).filter(|rest| !rest.is_empty()) else {
        return Ok((size, Region::Whole));
    };
    if rest.last().is_some_and(|last| last.is_empty()) {
        return Err(wrong("values at the end are left out with their commas"));
    }
    let mut region = [None; 4];
    for (slot, text) in region.iter_mut().zip(rest) {
        if !text.is_empty() {
            let number = decimal(text).ok_or_else(|| wrong("sx, sy, sw and sh are numbers"))?;
            *slot = Some(number);
        }
    }
    // The absolute values of sx and sy count; a region without area shows nothing.
    let [left, top, width, height] = region;
    if [width, height].into_iter().flatten().any(|side| side.abs() < f64::MIN_POSITIVE) {
        return Err(wrong("sw and sh are not zero"));
    }
    let region = [left.map(f64::abs), top.map(f64::abs), width, height];
    Ok((size, Region::Pixels(region)))
}

/// A side of a viewport: digits only.
pub(super) fn side(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.filter(|side| (1..=MAX_SIDE).contains(side))
}

/// A decimal number: sign, digits, point, and an exponent.
pub(super) fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if !plain || text.len() > 32 {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite() && number.abs() < 1e12)
}

/// `center,width,function`.
fn window(text: &str) -> Result<Window, Problem> {
    let wrong = |rule| Problem::invalid("window", rule);
    let values: Vec<&str> = text.split(',').collect();
    let [center, width, function] = values.as_slice() else {
        return Err(wrong("three values: center,width,function"));
    };
    let (Some(center), Some(width)) = (decimal(center), decimal(width)) else {
        return Err(wrong("center and width are decimal numbers"));
    };
    let function = match function.to_ascii_lowercase().as_str() {
        "linear" => Function::Linear,
        "linear-exact" => Function::LinearExact,
        "sigmoid" => Function::Sigmoid,
        _ => return Err(wrong("the function is linear, linear-exact or sigmoid")),
    };
    checked_window("window", Window { center, width, function })
}

/// A window whose width its function takes (PS3.3 §C.11.2.1.2, §C.11.2.1.3).
pub(super) fn checked_window(field: &'static str, window: Window) -> Result<Window, Problem> {
    match window.function {
        Function::Linear if window.width < 1.0 => {
            Err(Problem::invalid(field, "the width is at least 1"))
        }
        Function::LinearExact | Function::Sigmoid if window.width <= 0.0 => {
            Err(Problem::invalid(field, "the width is greater than 0"))
        }
        _ => Ok(window),
    }
}

/// A whole number from 1 to 100.
pub(super) fn quality(field: &'static str, text: &str) -> Result<u8, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number
        .filter(|quality| (1..=100).contains(quality))
        .ok_or_else(|| Problem::invalid(field, "a whole number from 1 to 100"))
}

/// Keywords, separated by commas: what to burn in, and the keywords that say nothing to us.
pub(super) fn annotations(
    field: &'static str,
    text: &str,
) -> Result<(Annotations, Vec<String>), Problem> {
    let mut annotations = Annotations::default();
    let mut unsupported: Vec<String> = Vec::new();
    let keywords: Vec<&str> = text.split(',').map(str::trim).collect();
    if keywords.len() > MAX_KEYWORDS {
        return Err(Problem::invalid(field, "at most 16 keywords"));
    }
    for keyword in keywords {
        let first = keyword.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
        let rest = keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !first || !rest || keyword.len() > MAX_KEYWORD {
            return Err(Problem::invalid(
                field,
                "keywords such as patient and technique, separated by commas",
            ));
        }
        match keyword {
            "patient" => annotations.patient = true,
            "technique" => annotations.technique = true,
            other if unsupported.iter().any(|known| known == other) => {}
            other => unsupported.push(other.to_owned()),
        }
    }
    Ok((annotations, unsupported))
}

fn icc_profile(text: &str) -> Result<IccProfile, Problem> {
    Ok(match text {
        "no" => IccProfile::No,
        "yes" => IccProfile::Yes,
        "srgb" => IccProfile::Srgb,
        "adobergb" => IccProfile::AdobeRgb,
        "rommrgb" => IccProfile::RommRgb,
        _ => {
            let rule = "one of no, yes, srgb, adobergb and rommrgb";
            return Err(Problem::invalid("iccprofile", rule));
        }
    })
}

/// The format of a rendered media type for images; `None` for other types.
pub(super) fn format(media_type: &str, quality: u8) -> Option<Format> {
    Some(match media_type {
        "image/jpeg" => Format::Jpeg { quality },
        "image/png" => Format::Png,
        "image/gif" => Format::Gif,
        "image/jxl" => Format::JpegXl,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
