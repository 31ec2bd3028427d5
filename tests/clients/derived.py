#!/usr/bin/env python3
"""Objects that highdicom makes of images, against a running server.

usage: derived.py BASE_URL     (the server must have features.enable_data_partition = true)

Segmentations, parametric maps, structured reports, presentation states, key objects, bulk annotations,
secondary captures and legacy-converted images, native and compressed. Each is stored by STOW with
the images that it refers to, comes back byte for byte, with the metadata, frames and bulk values that
pydicom finds, is found by search, and is opened by highdicom. Then each is put together by the
server itself, of its metadata and its bulk values (PS3.18 §10.5.2): pydicom reads the same of it, and
dciodvfy finds no error that it does not find in what highdicom wrote.
"""

import copy
import io
import json
import sys
import tempfile
import warnings
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.sr.codedict import codes
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from corpus import DICOM_JSON, Failure, check, check_explicit, check_frames, check_metadata, multipart
from dciodvfy import errors
from jsonmodel import model, normalise

warnings.simplefilter("ignore")
DATA = Path(pydicom.__file__).parent / "data" / "test_files"
MADE_BY = {
    "manufacturer": "Test",
    "manufacturer_model_name": "Model",
    "software_versions": "1",
    "device_serial_number": "1",
}
ALGORITHM = hd.AlgorithmIdentificationSequence(
    name="threshold", version="1", family=codes.cid7162.ArtificialIntelligence
)


def placed():
    """What every object is told of its place."""
    return {
        "series_instance_uid": hd.UID(),
        "series_number": 8,
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
    }


def slices():
    """A series of four slices."""
    series = []
    for number in range(4):
        ds = pydicom.dcmread(DATA / "CT_small.dcm")
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
        ds.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.3"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.8.498.4.{number}"
        ds.InstanceNumber = number + 1
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, round(z + 5 * number, 6)]
        ds.SpacingBetweenSlices = 5
        ds.PatientBirthDate = "19700101"
        ds.PatientSex = "O"
        ds.AccessionNumber = "A1"
        for vendor in [element.tag for element in ds if element.tag.is_private]:
            del ds[vendor]
        series.append(ds)
    return series


def described(number, label):
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.cid7150.AnatomicalStructure,
        segmented_property_type=codes.cid7154.Liver,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=ALGORITHM,
    )


def segmentations(images):
    shape = (len(images), images[0].Rows, images[0].Columns)
    mask = np.zeros(shape, dtype=np.uint8)
    mask[:, 20:60, 30:90] = 1
    mask[1:, 70:80, 10:19] = 2
    part = np.linspace(0, 1, mask.size, dtype=np.float32).reshape(shape)
    segments = [described(1, "first"), described(2, "second")]
    kinds = [
        ("BINARY", mask, segments, ExplicitVRLittleEndian),
        ("BINARY", mask, segments, ImplicitVRLittleEndian),
        ("FRACTIONAL", part, segments[:1], ExplicitVRLittleEndian),
        ("FRACTIONAL", part, segments[:1], RLELossless),
        ("FRACTIONAL", part, segments[:1], JPEG2000Lossless),
        ("LABELMAP", mask, segments, ExplicitVRLittleEndian),
        ("LABELMAP", mask, segments, JPEGLSLossless),
    ]
    for kind, pixels, segments, syntax in kinds:
        made = hd.seg.Segmentation(
            source_images=images,
            pixel_array=pixels,
            segmentation_type=kind,
            segment_descriptions=segments,
            transfer_syntax_uid=syntax,
            content_creator_name="Doe^John",
            **placed(),
            **MADE_BY,
        )
        yield f"segmentation {kind} {syntax.name}", made


def parametric_maps(images):
    shape = (len(images), images[0].Rows, images[0].Columns)
    values = np.random.default_rng(7).random(shape)
    kinds = [
        (values.astype(np.float32), ExplicitVRLittleEndian, (0.0, 1.0)),
        (values.astype(np.float64), ExplicitVRLittleEndian, (0.0, 1.0)),
        ((values * 4000).astype(np.uint16), ExplicitVRLittleEndian, (0, 4000)),
        ((values * 4000).astype(np.uint16), JPEG2000Lossless, (0, 4000)),
        ((values * 4000).astype(np.uint16), RLELossless, (0, 4000)),
    ]
    for pixels, syntax, span in kinds:
        mapping = hd.pm.RealWorldValueMapping(
            lut_label="1",
            lut_explanation="a value",
            unit=codes.UCUM.NoUnits,
            value_range=span,
            slope=1,
            intercept=0,
        )
        made = hd.pm.ParametricMap(
            source_images=images,
            pixel_array=pixels,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            window_center=sum(span) / 2,
            window_width=span[1] - span[0],
            transfer_syntax_uid=syntax,
            content_label="MAP",
            **placed(),
            **MADE_BY,
        )
        yield f"parametric map {pixels.dtype} {syntax.name}", made


def reports(images):
    person = hd.sr.ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(name="Doe^Jöhn"),
    )
    context = hd.sr.ObservationContext(observer_person_context=person)
    tracking = hd.sr.TrackingIdentifier(uid=hd.UID(), identifier="lesion 1")
    length = hd.sr.Measurement(name=codes.SCT.Length, value=23.5, unit=codes.UCUM.Millimeter)
    source = hd.sr.SourceImageForRegion.from_source_image(images[0])
    flat = hd.sr.ImageRegion(
        graphic_type=hd.sr.GraphicTypeValues.POLYLINE,
        graphic_data=np.array([[10.0, 10.0], [40.0, 10.0], [40.0, 30.0], [10.0, 10.0]]),
        source_image=source,
    )
    corner = np.array(images[0].ImagePositionPatient, dtype=float)
    spatial = hd.sr.ImageRegion3D(
        graphic_type=hd.sr.GraphicTypeValues3D.POLYGON,
        graphic_data=corner + np.array([[0.0, 0, 0], [20, 0, 0], [20, 20, 0], [0, 0, 0]]),
        frame_of_reference_uid=images[0].FrameOfReferenceUID,
    )
    for kind, region in [
        (hd.sr.EnhancedSR, flat),
        (hd.sr.ComprehensiveSR, flat),
        (hd.sr.Comprehensive3DSR, spatial),
    ]:
        measured = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            referenced_region=region,
            finding_type=codes.SCT.Lesion,
            measurements=[length],
        )
        content = hd.sr.MeasurementReport(
            observation_context=context,
            procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
            imaging_measurements=[measured],
        )
        yield f"TID 1500 {kind.__name__}", kind(
            evidence=images, content=content[0], is_complete=True, manufacturer="Test", **placed()
        )


def presentation_states(images):
    same = {"content_label": "STATE", "concept_name": codes.DCM.PresentationState, "content_creator_name": "Doe^John"}
    window = hd.pr.SoftcopyVOILUTTransformation(window_center=40, window_width=400)
    layer = hd.pr.GraphicLayer(layer_name="LAYER1", order=1)
    circle = hd.pr.GraphicObject(
        graphic_type=hd.pr.GraphicTypeValues.CIRCLE,
        graphic_data=np.array([[50.0, 50.0], [50.0, 60.0]]),
        units=hd.pr.AnnotationUnitsValues.PIXEL,
    )
    text = hd.pr.TextObject(
        text_value="Läsion",
        anchor_point=(20.0, 20.0),
        units=hd.pr.AnnotationUnitsValues.PIXEL,
    )
    drawn = hd.pr.GraphicAnnotation(
        referenced_images=images, graphic_layer=layer, graphic_objects=[circle], text_objects=[text]
    )
    yield "greyscale presentation state", hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=images,
        voi_lut_transformations=[window],
        graphic_annotations=[drawn],
        graphic_layers=[layer],
        **same,
        **placed(),
        **MADE_BY,
    )
    colors = hd.PaletteColorLUTTransformation(
        *[
            hd.PaletteColorLUT(
                first_mapped_value=0, lut_data=(np.arange(256) * step % 256).astype(np.uint16) * 257, color=color
            )
            for step, color in [(1, "red"), (3, "green"), (7, "blue")]
        ],
        palette_color_lut_uid=hd.UID(),
    )
    yield "pseudo-color presentation state", hd.pr.PseudoColorSoftcopyPresentationState(
        referenced_images=images,
        palette_color_lut_transformation=colors,
        **same,
        **placed(),
        **MADE_BY,
    )


def key_objects(images):
    person = hd.sr.ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(name="Doe^John"),
    )
    content = hd.ko.KeyObjectSelection(
        document_title=codes.DCM.OfInterest,
        referenced_objects=images[:2],
        observer_person_context=person,
        description="those two",
    )
    yield "key objects", hd.ko.KeyObjectSelectionDocument(
        evidence=images[:2], content=content, manufacturer="Test", **placed()
    )


def captures(images):
    wave = (np.indices((48, 64)).sum(axis=0) * 2).astype(np.uint8)
    rgb = np.stack([wave, wave.T.reshape(48, 64), 255 - wave], axis=-1)
    for pixels, photometric, bits, syntax in [
        (wave, "MONOCHROME2", 8, ExplicitVRLittleEndian),
        (wave.astype(np.uint16) * 16, "MONOCHROME2", 12, ExplicitVRLittleEndian),
        (rgb, "RGB", 8, ExplicitVRLittleEndian),
        (rgb, "YBR_FULL", 8, RLELossless),
        (wave, "MONOCHROME2", 8, JPEGLSLossless),
        (rgb, "YBR_RCT", 8, JPEG2000Lossless),
    ]:
        yield f"secondary capture {photometric} {bits} {syntax.name}", hd.sc.SCImage.from_ref_dataset(
            ref_dataset=images[0],
            pixel_array=pixels,
            photometric_interpretation=photometric,
            bits_allocated=16 if bits > 8 else 8,
            coordinate_system="PATIENT",
            manufacturer="Test",
            patient_orientation=("L", "P"),
            transfer_syntax_uid=syntax,
            **placed(),
        )


def converted(images):
    yield "legacy-converted CT", hd.legacy.LegacyConvertedEnhancedCTImage(legacy_datasets=images, **placed())
    yield "legacy-converted CT RLE Lossless", hd.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=images, transfer_syntax_uid=RLELossless, **placed()
    )


def annotations(_):
    slide = pydicom.dcmread(DATA / "examples_ybr_color.dcm")
    slide.SOPClassUID = slide.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    slide.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    slide.FrameOfReferenceUID = hd.UID()
    slide.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    slide.ContainerIdentifier = "1"
    slide.IssuerOfTheContainerIdentifierSequence = []
    slide.ContainerTypeCodeSequence = [hd.sr.CodedConcept("433466003", "SCT", "Microscope slide")]
    slide.SpecimenDescriptionSequence = []
    for name in ["PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName", "StudyID"]:
        if name not in slide:
            setattr(slide, name, "")
    points = [np.array([[x, x + 1.0]]) for x in range(200)]
    areas = hd.ann.Measurements(
        name=codes.SCT.Area,
        unit=codes.UCUM.SquareMicrometer,
        values=np.arange(200, dtype=np.float32),
    )
    group = hd.ann.AnnotationGroup(
        number=1,
        uid=hd.UID(),
        label="nuclei",
        annotated_property_category=codes.SCT.AnatomicalStructure,
        annotated_property_type=hd.sr.CodedConcept("84640000", "SCT", "Nucleus"),
        graphic_type=hd.ann.GraphicTypeValues.POINT,
        graphic_data=points,
        algorithm_type=hd.ann.AnnotationGroupGenerationTypeValues.AUTOMATIC,
        algorithm_identification=ALGORITHM,
        measurements=[areas],
    )
    yield "bulk annotations", hd.ann.MicroscopyBulkSimpleAnnotations(
        source_images=[slide],
        annotation_coordinate_type=hd.ann.AnnotationCoordinateTypeValues.SCOORD,
        annotation_groups=[group],
        **placed(),
        **MADE_BY,
    )


KINDS = [segmentations, parametric_maps, reports, presentation_states, key_objects, captures, converted, annotations]


def written(ds):
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def read(body):
    return pydicom.dcmread(io.BytesIO(body))


def opened(name, body, images):
    """What highdicom itself makes of a file that came back."""
    file = io.BytesIO(body)
    if name.startswith("segmentation"):
        segmentation = hd.seg.segread(file)
        uids = [ds.SOPInstanceUID for ds in images]
        check(segmentation.get_pixels_by_source_instance(uids).any(), "the segments are empty")
    elif name.startswith(("parametric map", "legacy")):
        check(hd.imread(file).get_frames().any(axis=(1, 2)).all(), "a frame is empty")
    elif name.startswith("TID 1500"):
        groups = hd.sr.srread(file).content.get_planar_roi_measurement_groups()
        (length,) = groups[0].get_measurements()
        check((len(groups), length.value) == (1, 23.5), "another measurement")
    elif name == "bulk annotations":
        (group,) = hd.ann.annread(file).get_annotation_groups()
        check(len(group.get_graphic_data("2D")) == 200, "the points are not there")


def check_search(client, ds):
    """By what search results and series tell of it."""
    uids = {"SOPInstanceUID": ds.SOPInstanceUID}
    (found,) = client.search_for_instances(search_filters=uids, fields=["SOPClassUID", "NumberOfFrames"])
    check(found["00080016"]["Value"] == [ds.SOPClassUID], "another SOP class is found")
    if "NumberOfFrames" in ds:
        check(found["00280008"]["Value"] == [int(ds.NumberOfFrames)], "another number of frames is found")
    series = client.search_for_series(ds.StudyInstanceUID, search_filters={"Modality": ds.Modality})
    check(ds.SeriesInstanceUID in [one["0020000E"]["Value"][0] for one in series], "not found by its modality")


def composed(base, url, ds):
    """Stores an instance by its metadata and bulk values, as they are given; the file that it became."""
    (metadata,) = requests.get(f"{url}/metadata", headers={"Accept": DICOM_JSON}, timeout=60).json()
    parts = []
    syntax = ds.file_meta.TransferSyntaxUID

    def collect(item):
        for key, attribute in item.items():
            if "BulkDataURI" in attribute:
                accept = 'multipart/related; type="application/octet-stream"; transfer-syntax=*, */*;q=0.1'
                got = requests.get(attribute["BulkDataURI"], headers={"Accept": accept}, timeout=60)
                check(got.status_code == 200, f"{key}: {got.status_code}")
                uri = attribute["BulkDataURI"] = f"bulk/{len(parts)}"
                kind = "application/octet-stream"
                if key == "7FE00010" and syntax.is_encapsulated:
                    kind = f"{kind}; transfer-syntax={syntax}"
                parts.extend((uri, kind, part) for _, part in multipart(got))
            for inner in attribute.get("Value", []) if attribute["vr"] == "SQ" else []:
                collect(inner)

    collect(metadata)
    body = b"--b\r\nContent-Type: application/dicom+json\r\n\r\n" + json.dumps([metadata]).encode()
    for uri, kind, part in parts:
        body += f"\r\n--b\r\nContent-Type: {kind}\r\nContent-Location: {uri}\r\n\r\n".encode() + part
    kind = f'multipart/related; type="{DICOM_JSON}"; boundary=b'
    headers = {"Content-Type": kind, "Accept": DICOM_JSON}
    answer = requests.post(f"{base}/studies", data=body + b"\r\n--b--", headers=headers, timeout=60)
    check(answer.status_code == 200, f"stored as metadata: {answer.status_code} {answer.text[:500]}")
    return whole(answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0])


def whole(url):
    got = requests.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"}, timeout=60)
    check(got.status_code == 200, f"retrieve: {got.status_code} {got.text[:300]}")
    return got.content


def check_composed(before, after, folder):
    ours, theirs = normalise(model(after)), normalise(model(before))
    # It is in Unicode now, and says so.
    for both in (ours, theirs):
        both.pop("00080005", None)
    different = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    lines = [f"{k}: ours {str(ours.get(k))[:300]} highdicom's {str(theirs.get(k))[:300]}" for k in different]
    check(not different, "what was put together differs:\n    " + "\n    ".join(lines))
    found = []
    for ds in (before, after):
        path = folder / "file.dcm"
        path.write_bytes(written(copy.deepcopy(ds)))
        found.append(errors(path))
    check(not found[1] - found[0], f"dciodvfy finds: {'; '.join(sorted(found[1] - found[0]))}")


def try_one(base, name, body, images, folder):
    client = DICOMwebClient(url=f"{base}/partitions/derived")
    headers = {"Content-Type": "application/dicom", "Accept": DICOM_JSON}
    answer = requests.post(f"{base}/partitions/derived/studies", data=body, headers=headers, timeout=60)
    check(answer.status_code == 200, f"status {answer.status_code}: {answer.text[:500]}")
    url = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    check(whole(url) == body, "the retrieved bytes differ")
    ds = read(body)
    syntax = ds.file_meta.TransferSyntaxUID
    if "FloatPixelData" not in ds and "DoubleFloatPixelData" not in ds:
        check_frames(url, ds, syntax)
    check_metadata(url, Path(pydicom.__file__).parent / "data" / name, ds)
    check_explicit(url, ds, syntax)
    check_search(client, ds)
    opened(name, whole(url), images)
    after = composed(f"{base}/partitions/composed", url, ds)
    check_composed(ds, read(after), folder)
    opened(name, after, images)


def main(base):
    images = slices()
    # Images first: what is made of them refers to them.
    for partition in ("derived", "composed"):
        DICOMwebClient(url=f"{base}/partitions/{partition}").store_instances(images)
    tried, failures = 0, []
    with tempfile.TemporaryDirectory() as folder:
        for name, made in (one for kind in KINDS for one in kind(images)):
            tried += 1
            try:
                try_one(base, name, written(made), images, Path(folder))
            except Failure as failure:
                failures.append(name)
                print(f"FAILED {name}: {failure}")
            except Exception as error:  # noqa: BLE001 - name the object, whatever went wrong
                failures.append(name)
                print(f"FAILED {name}: {type(error).__name__}: {error}")
    print(f"highdicom: {tried} objects stored as files and as metadata, {len(failures)} failed")
    sys.exit(1 if failures or tried < 20 else 0)


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
