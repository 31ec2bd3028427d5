//! WADO-URI (PS3.18 chapter 9): one instance, named by the query, as it is or as a picture.
//!
//! Holds: every parameter that is known is checked, whatever is answered; a bad value, a parameter
//! given twice, and parameters that do not go together are a 400 that names the parameter. Nothing
//! identified is given to who asks for it de-identified: with `anonymize=yes` there are no pictures.
//! The answer is a single part.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, request::Parts},
    response::Response,
};

use super::{
    App,
    accept::{AcceptSet, Choice, Form, choose, offers},
    admit::{Admitted, Read},
    deidentified,
    problem::Problem,
    rendered, rendered_state,
    view_query::{self, Parameters, Region, Size, ViewQuery},
    wado,
};
use crate::{
    archive::{ArchiveError, Kind, Rendering, Shot, Target, Version, Wanted},
    config::MissingAccept,
    dicom::{Tag, Uid},
    render::{Annotations, Function, Window},
};

const DICOM: &str = "application/dicom";

/// A request, understood.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    target: Target,
    /// `contentType`, as the value of an `Accept` header.
    content_type: Option<String>,
    transfer_syntax: Option<Uid>,
    frame: Option<u32>,
    view: ViewQuery,
    unsupported: Vec<String>,
    /// Series and instance of a presentation state.
    presentation: Option<(Uid, Uid)>,
    /// `anonymize`.
    is_deidentified: bool,
}

/// Retrieves an instance.
pub async fn retrieve(
    State(app): State<App>,
    caller: Admitted<Read>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let asked = Asked::read(parts.uri.query().unwrap_or_default())?;
    let rendering = app.archive.rendering(caller.scope.clone(), asked.target.clone()).await?;
    let choice = asked.choose(&rendering, &parts, app.retrieve.missing_accept)?;
    if choice.media_type != DICOM {
        if asked.is_deidentified {
            // PS3.18 §9.1.2.1.4.
            return Err(Problem::invalid("anonymize", "there for application/dicom alone"));
        }
        let frames = asked.frames(&rendering)?;
        let (view, urls) = (&asked.view, &caller.urls);
        let response = match &asked.presentation {
            Some(named) => {
                let (state, shot) = presented(&app, &rendering, named).await?;
                rendered_state::give(&state, vec![shot], view, &choice, urls, &parts).await?
            }
            None => {
                let frames = frames.as_deref();
                rendered::give(&rendering, frames, view, &choice, urls, &parts).await?
            }
        };
        return Ok(rendered::warned(response, &asked.unsupported));
    }
    if asked.view.window.is_some() {
        return Err(Problem::invalid("windowCenter", "not together with application/dicom"));
    }
    let wanted = asked.transfer_syntax.map_or(Wanted::Default, Wanted::Exactly);
    let (scope, target) = (caller.scope.clone(), asked.target);
    let instances = app.archive.instances(scope, target, Version::Current, vec![wanted]).await?;
    if asked.is_deidentified {
        let (scope, urls) = (&caller.scope, &caller.urls);
        return deidentified::answer(&app, scope, urls, &parts, Form::Single, instances).await;
    }
    let only_head = parts.method == Method::HEAD;
    let asked = wado::Asked { urls: caller.urls, headers: &parts.headers, only_head };
    asked.answer(Form::Single, instances).await
}

/// The presentation state that was named, and the first frame of the image that it shows.
///
/// # Errors
/// 400 where there is no such state, or it is not about the image (PS3.18 §8.3.5.1.6).
async fn presented(
    app: &App,
    image: &Rendering,
    (series, instance): &(Uid, Uid),
) -> Result<(Rendering, Shot), Problem> {
    let wrong = || Problem::invalid("presentationUID", "of a state in the study, of the image");
    let study = image.target().study().clone();
    let (series, instance) = (series.clone(), instance.clone());
    let target = Target::Instance { study, series, instance };
    let state = match app.archive.rendering(image.scope().clone(), target).await {
        Ok(state) if state.kind() == Kind::State => state,
        Ok(_) | Err(ArchiveError::NotFound | ArchiveError::Gone) => return Err(wrong()),
        Err(error) => return Err(error.into()),
    };
    let shots = state.presented().await?;
    let shot = shots.into_iter().find(|shot| shot.image.target() == image.target());
    Ok((state, shot.ok_or_else(wrong)?))
}

impl Asked {
    /// Reads the parameters.
    ///
    /// # Errors
    /// 400, see the module.
    fn read(query: &str) -> Result<Self, Problem> {
        let parameters = Parameters::of(query)?;
        if parameters.get("requestType") != Some("WADO") {
            return Err(Problem::invalid("requestType", "there, and WADO"));
        }
        let needed = |name: &'static str| -> Result<Uid, Problem> {
            uid(&parameters, name)?.ok_or_else(|| Problem::invalid(name, "there, and a UID"))
        };
        let target = Target::Instance {
            study: needed("studyUID")?,
            series: needed("seriesUID")?,
            instance: needed("objectUID")?,
        };
        let is_deidentified = match parameters.get("anonymize") {
            None => false,
            Some("yes") => true,
            Some(_) => return Err(Problem::invalid("anonymize", deidentified::RULE)),
        };
        let (annotations, unsupported) = annotations(&parameters)?;
        let view = ViewQuery {
            size: size(&parameters)?,
            region: region(&parameters)?,
            window: window(&parameters)?,
            annotations,
            icc: None,
            quality: parameters
                .get("imageQuality")
                .map(|text| view_query::quality("imageQuality", text))
                .transpose()?,
        };
        let frame = parameters.get("frameNumber").map(frame_number).transpose()?;
        let presentation = presentation(&parameters)?;
        if presentation.is_some() {
            // PS3.18 §9.5.1.2.7: beside it only annotation, quality, region and viewport.
            // A region of what the state shows is not supported.
            for (field, given) in [
                ("windowCenter", view.window.is_some()),
                ("frameNumber", frame.is_some()),
                ("region", view.region != Region::Whole),
            ] {
                if given {
                    let rule = "not together with a presentation state";
                    return Err(Problem::invalid(field, rule));
                }
            }
        }
        Ok(Self {
            target,
            content_type: parameters.get("contentType").map(content_type).transpose()?,
            transfer_syntax: uid(&parameters, "transferSyntax")?,
            frame,
            view,
            unsupported,
            presentation,
            is_deidentified,
        })
    }

    /// What the instance is given as.
    fn choose(
        &self,
        rendering: &Rendering,
        parts: &Parts,
        missing: MissingAccept,
    ) -> Result<Choice, Problem> {
        // `contentType` is the query's Accept here, and `accept` means nothing.
        let query = self.content_type.as_deref().map(|list| {
            url::form_urlencoded::Serializer::new(String::new())
                .append_pair("accept", list)
                .finish()
        });
        let none = HeaderMap::new();
        let headers = if query.is_some() { &none } else { &parts.headers };
        let accept = AcceptSet::of(headers, query.as_deref(), missing);
        let mut offers = rendered::offers(rendering.kind(), &offers::WADO_URI);
        let named = |list: &str| list.to_ascii_lowercase().contains(DICOM);
        if self.content_type.as_deref().is_none_or(named) {
            offers.extend(offers::WADO_URI.iter().filter(|offer| offer.media_type == DICOM));
        }
        if offers.is_empty() {
            return Err(rendered::nothing_to_show());
        }
        Ok(choose(&accept, &offers)?)
    }

    /// The frame asked for, as a list.
    ///
    /// # Errors
    /// 400 where the instance is none of several frames, or has fewer (PS3.18 §9.5.2.1).
    fn frames(&self, rendering: &Rendering) -> Result<Option<Vec<u32>>, Problem> {
        let Some(frame) = self.frame else { return Ok(None) };
        let header = rendering.image().header().root();
        let several = rendering.frames() > 1 || header.has(Tag(0x0028, 0x0008));
        if !several || frame > rendering.frames() {
            let rule = "the number of a frame of an instance that has several";
            return Err(Problem::invalid("frameNumber", rule));
        }
        Ok(Some(vec![frame]))
    }
}

fn uid(parameters: &Parameters, name: &'static str) -> Result<Option<Uid>, Problem> {
    let parse = |text: &str| {
        text.parse().map_err(|error: crate::dicom::uid::InvalidUid| {
            Problem::invalid(name, error.to_string())
        })
    };
    parameters.get(name).map(parse).transpose()
}

/// The media type of an element of a list, in lower case.
fn item_type(item: &str) -> String {
    item.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Checks `contentType`: `application/dicom`, or rendered media types, without the parameters that
/// have names of their own here (PS3.18 §9.1.2.2.1).
fn content_type(list: &str) -> Result<String, Problem> {
    let wrong = |rule| Problem::invalid("contentType", rule);
    let token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+*".contains(&b))
    };
    let (mut dicom, mut others) = (false, false);
    for item in list.split(',') {
        let media_type = item_type(item);
        let halves = media_type.split_once('/');
        if !halves.is_some_and(|(kind, rest)| token(kind) && token(rest)) {
            return Err(wrong("media types, separated by commas"));
        }
        if media_type == DICOM {
            dicom = true
        } else {
            others = true
        }
        for parameter in item.split(';').skip(1) {
            let name = parameter.split('=').next().unwrap_or_default().trim();
            if ["transfer-syntax", "charset"].iter().any(|no| name.eq_ignore_ascii_case(no)) {
                return Err(wrong("media types without transfer-syntax and charset"));
            }
        }
    }
    if dicom && others {
        return Err(wrong("application/dicom, or rendered media types, but not both"));
    }
    Ok(list.to_owned())
}

fn frame_number(text: &str) -> Result<u32, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number
        .filter(|number| *number > 0)
        .ok_or_else(|| Problem::invalid("frameNumber", "a whole number from 1"))
}

/// `annotation`, which older editions call `imageAnnotation`.
fn annotations(parameters: &Parameters) -> Result<(Annotations, Vec<String>), Problem> {
    let mut all = (Annotations::default(), Vec::new());
    for name in ["annotation", "imageAnnotation"] {
        let Some(text) = parameters.get(name) else { continue };
        let (found, unsupported) = view_query::annotations(name, text)?;
        all.0.patient |= found.patient;
        all.0.technique |= found.technique;
        all.1.extend(unsupported);
    }
    Ok(all)
}

fn size(parameters: &Parameters) -> Result<Size, Problem> {
    let side = |name: &'static str| {
        let read = |text| {
            view_query::side(text)
                .ok_or_else(|| Problem::invalid(name, "a whole number from 1 to 8192"))
        };
        parameters.get(name).map(read).transpose()
    };
    Ok(Size { width: side("columns")?, height: side("rows")? })
}

/// `xmin,ymin,xmax,ymax`, parts of the whole.
fn region(parameters: &Parameters) -> Result<Region, Problem> {
    let Some(text) = parameters.get("region") else { return Ok(Region::Whole) };
    let numbers: Option<Vec<f64>> = text.split(',').map(view_query::decimal).collect();
    match numbers.as_deref() {
        Some(&[left, top, right, bottom])
            if 0.0 <= left
                && left < right
                && right <= 1.0
                && 0.0 <= top
                && top < bottom
                && bottom <= 1.0 =>
        {
            Ok(Region::Parts([left, top, right, bottom]))
        }
        _ => Err(Problem::invalid(
            "region",
            "xmin,ymin,xmax,ymax, from 0 to 1, the minima less than the maxima",
        )),
    }
}

/// `windowCenter` and `windowWidth`, of which neither stands alone (PS3.18 §9.5.1.2.6).
fn window(parameters: &Parameters) -> Result<Option<Window>, Problem> {
    let read = |name: &'static str| {
        let number = |text| {
            view_query::decimal(text).ok_or_else(|| Problem::invalid(name, "a decimal number"))
        };
        parameters.get(name).map(number).transpose()
    };
    match (read("windowCenter")?, read("windowWidth")?) {
        (None, None) => Ok(None),
        (Some(center), Some(width)) => {
            let window = Window { center, width, function: Function::Linear };
            view_query::checked_window("windowWidth", window).map(Some)
        }
        (Some(_), None) => Err(Problem::invalid("windowWidth", "there with windowCenter")),
        (None, Some(_)) => Err(Problem::invalid("windowCenter", "there with windowWidth")),
    }
}

/// `presentationSeriesUID` and `presentationUID`, both or none.
fn presentation(parameters: &Parameters) -> Result<Option<(Uid, Uid)>, Problem> {
    match (uid(parameters, "presentationSeriesUID")?, uid(parameters, "presentationUID")?) {
        (None, None) => Ok(None),
        (Some(series), Some(instance)) => Ok(Some((series, instance))),
        (Some(_), None) => {
            Err(Problem::invalid("presentationUID", "there with presentationSeriesUID"))
        }
        (None, Some(_)) => {
            Err(Problem::invalid("presentationSeriesUID", "there with presentationUID"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: &str = "requestType=WADO&studyUID=1.2&seriesUID=1.2.3&objectUID=1.2.3.4";

    fn read(more: &str) -> Result<Asked, Problem> {
        Asked::read(&format!("{NAMED}&{more}"))
    }

    #[test]
    fn what_is_asked_is_understood() {
        let asked = read("").unwrap();
        let (study, series) = ("1.2".parse().unwrap(), "1.2.3".parse().unwrap());
        let instance = "1.2.3.4".parse().unwrap();
        assert_eq!(asked.target, Target::Instance { study, series, instance });
        assert_eq!(asked.view, ViewQuery::default());
        let asked = read(
            "contentType=image/png;q=0.5,%20image/jpeg&frameNumber=3&imageQuality=7&rows=20\
             &region=0,0.25,1,0.75&windowCenter=-40.5&windowWidth=1e2&annotation=patient\
             &imageAnnotation=technique,dose&transferSyntax=1.2.840.10008.1.2.1&charset=utf-8",
        )
        .unwrap();
        assert_eq!(asked.content_type.as_deref(), Some("image/png;q=0.5, image/jpeg"));
        assert_eq!(asked.frame, Some(3));
        assert_eq!(asked.unsupported, ["dose"]);
        let window = Window { center: -40.5, width: 100.0, function: Function::Linear };
        let expected = ViewQuery {
            size: Size { width: None, height: Some(20) },
            region: Region::Parts([0.0, 0.25, 1.0, 0.75]),
            window: Some(window),
            annotations: Annotations { patient: true, technique: true },
            icc: None,
            quality: Some(7),
        };
        assert_eq!(asked.view, expected);
        let asked = read("presentationUID=1.5.1&presentationSeriesUID=1.5&rows=5").unwrap();
        assert_eq!(asked.presentation, Some(("1.5".parse().unwrap(), "1.5.1".parse().unwrap())));
    }

    #[test]
    fn what_must_be_there_is_asked_for() {
        for (query, field) in [
            ("", "requestType"),
            ("requestType=wado&studyUID=1&seriesUID=1&objectUID=1", "requestType"),
            ("requestType=WADO", "studyUID"),
            ("requestType=WADO&studyUID=1.2", "seriesUID"),
            ("requestType=WADO&studyUID=1.2&seriesUID=1.2", "objectUID"),
            ("requestType=WADO&studyUID=x&seriesUID=1.2&objectUID=1", "studyUID"),
            ("requestType=WADO&studyUID=1&seriesUID=1..2&objectUID=1", "seriesUID"),
            ("requestType=WADO&studyUID=1&seriesUID=1.2&objectUID=", "objectUID"),
            ("requestType=WADO&requestType=WADO", "requestType"),
        ] {
            let problem = Asked::read(query).expect_err(query);
            assert_eq!(problem.status().as_u16(), 400, "{query}");
            assert_eq!(problem.errors()[0].field, field, "{query}");
        }
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (query, field) in [
            ("contentType=", "contentType"),
            ("contentType=jpeg", "contentType"),
            ("contentType=image/", "contentType"),
            ("contentType=image/jpeg,", "contentType"),
            ("contentType=application/dicom,image/jpeg", "contentType"),
            ("contentType=application/dicom;transfer-syntax=1.2", "contentType"),
            ("contentType=application/dicom;%20Transfer-Syntax=1.2", "contentType"),
            ("contentType=text/html;charset=utf-8", "contentType"),
            ("contentType=image/jpeg&contentType=image/jpeg", "contentType"),
            ("transferSyntax=explicit", "transferSyntax"),
            ("transferSyntax=1.2&transferSyntax=1.2", "transferSyntax"),
            ("frameNumber=0", "frameNumber"),
            ("frameNumber=-1", "frameNumber"),
            ("frameNumber=1,2", "frameNumber"),
            ("frameNumber=99999999999", "frameNumber"),
            ("imageQuality=0", "imageQuality"),
            ("imageQuality=101", "imageQuality"),
            ("rows=0", "rows"),
            ("rows=8193", "rows"),
            ("columns=1.5", "columns"),
            ("columns=", "columns"),
            ("region=0,0,1", "region"),
            ("region=0,0,1,1,1", "region"),
            ("region=0,0,0,1", "region"),
            ("region=0.5,0,0.4,1", "region"),
            ("region=-0.1,0,1,1", "region"),
            ("region=0,0,1,1.01", "region"),
            ("region=0,0,NaN,1", "region"),
            ("windowCenter=40", "windowWidth"),
            ("windowWidth=40", "windowCenter"),
            ("windowWidth=x&windowCenter=1", "windowWidth"),
            ("windowWidth=0&windowCenter=1", "windowWidth"),
            ("windowWidth=4&windowCenter=inf", "windowCenter"),
            ("annotation=", "annotation"),
            ("imageAnnotation=1", "imageAnnotation"),
            ("presentationUID=1.2", "presentationSeriesUID"),
            ("presentationSeriesUID=1.2", "presentationUID"),
            ("presentationSeriesUID=1.2&presentationUID=x", "presentationUID"),
            (
                "presentationSeriesUID=1.2&presentationUID=1.2&windowCenter=1&windowWidth=2",
                "windowCenter",
            ),
            ("presentationSeriesUID=1.2&presentationUID=1.2&frameNumber=1", "frameNumber"),
            ("presentationSeriesUID=1.2&presentationUID=1.2&region=0,0,1,1", "region"),
            ("anonymize=no", "anonymize"),
            ("anonymize=", "anonymize"),
            ("anonymize=yes&anonymize=yes", "anonymize"),
        ] {
            let problem = read(query).expect_err(query);
            assert_eq!(problem.status().as_u16(), 400, "{query}");
            assert_eq!(problem.errors()[0].field, field, "{query}");
        }
    }
}
