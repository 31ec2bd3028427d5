"""What the round trip of pydicom's files expects beyond "stored, and all of it agrees"."""

# (0008,1197): C000H, cannot understand; A900H, a required attribute is missing.
UNREADABLE, INCOMPLETE = 0xC000, 0xA900

NO_CLASS = (INCOMPLETE, "(0008,0016) is missing")
NO_STUDY = (INCOMPLETE, "(0020,000D) is missing")
NOT_DICOM = (UNREADABLE, "not a DICOM Part 10 file")

# Refused, each with its (0008,1197) and some of the words that say why.
REFUSED = {
    # Cut off in the middle, on purpose.
    "test_files/MR_truncated.dcm": (UNREADABLE, "the data ends at byte"),
    "test_files/rtplan_truncated.dcm": (UNREADABLE, "the data ends at byte"),
    # Nothing says how the data set is encoded.
    "test_files/meta_missing_tsyntax.dcm": (INCOMPLETE, "(0002,0010) is missing"),
    # A stray byte stands before the first element.
    "test_files/no_meta.dcm": NOT_DICOM,
    # Its record offsets were removed together with the ends of its items.
    "test_files/dicomdirtests/DICOMDIR-nooffset": (UNREADABLE, "malformed at byte"),
    # Media directories (PS3.10): no composite instances.
    "test_files/dicomdirtests/DICOMDIR": NO_CLASS,
    "test_files/dicomdirtests/DICOMDIR-bigEnd": NO_CLASS,
    "test_files/dicomdirtests/DICOMDIR-empty.dcm": NO_CLASS,
    "test_files/dicomdirtests/DICOMDIR-implicit": NO_CLASS,
    "test_files/dicomdirtests/DICOMDIR-nopatient": NO_CLASS,
    "test_files/dicomdirtests/DICOMDIR-reordered": NO_CLASS,
    "test_files/dicomdirtests/TINY_ALPHA/DICOMDIR": NO_CLASS,
    # Fragments of data sets, made to try a parser.
    "charset_files/chrSQEncoding.dcm": NO_CLASS,
    "charset_files/chrSQEncoding1.dcm": NO_CLASS,
    "test_files/UN_sequence.dcm": NO_CLASS,
    "test_files/empty_charset_LEI.dcm": NO_CLASS,
    "test_files/nested_priv_SQ.dcm": NO_CLASS,
    "test_files/no_meta_group_length.dcm": NO_CLASS,
    "test_files/priv_SQ.dcm": NO_CLASS,
    "test_files/JPEGLSNearLossless_08.dcm": NO_STUDY,
    "test_files/JPEGLSNearLossless_16.dcm": NO_STUDY,
    "test_files/SC_rgb_jls_lossy_line.dcm": NO_STUDY,
    "test_files/SC_rgb_jls_lossy_sample.dcm": NO_STUDY,
    # Color palettes: non-patient instances, which belong to no study.
    "palettes/fall.dcm": NO_STUDY,
    "palettes/hotiron.dcm": NO_STUDY,
    "palettes/hotmetalblue.dcm": NO_STUDY,
    "palettes/pet.dcm": NO_STUDY,
    "palettes/pet20step.dcm": NO_STUDY,
    "palettes/spring.dcm": NO_STUDY,
    "palettes/summer.dcm": NO_STUDY,
    "palettes/winter.dcm": NO_STUDY,
    # No DICOM at all.
    "charset_files/FileInfo.txt": NOT_DICOM,
    "palettes/README.md": NOT_DICOM,
    "test_files/README.txt": NOT_DICOM,
    "test_files/crayons.icc": NOT_DICOM,
    "test_files/dicomdirtests/README.txt": NOT_DICOM,
    "test_files/dicomdirtests/TINY_ALPHA/README": NOT_DICOM,
    "test_files/rtplan.dump": NOT_DICOM,
    "test_files/rtstruct.dump": NOT_DICOM,
    "test_files/test1.json": NOT_DICOM,
    "test_files/test_PN.json": NOT_DICOM,
    "test_files/zipMR.gz": NOT_DICOM,
}

# Data sets without the header of a Part 10 file, told by their first element.
BARE = {
    "test_files/ExplVR_BigEndNoMeta.dcm",
    "test_files/ExplVR_LitEndNoMeta.dcm",
    "test_files/rtstruct.dcm",
}

# Attributes in which our metadata and pydicom's JSON differ for a reason.
DIFFERENT_JSON = {
    # Written as UN of defined length although PS3.6 calls it SQ: ours stays UN, as it was sent;
    # pydicom opens it.
    "test_files/rtdose_rle.dcm": ["300C0002"],
    "test_files/rtdose_rle_1frame.dcm": ["300C0002"],
}

# Files whose frames no codec of the server decodes, each with the reason.
UNDECODED = {
    "test_files/JPEG2000-embedded-sequence-delimiter.dcm": "a delimiter stands in the middle of its codestream's header",
}

# Files with pixel data that are not compared with pydicom's pixels, each with the reason.
NOT_COMPARED = {
    "test_files/JPEG-lossy.dcm": "neither pylibjpeg nor gdcm decodes it: its scan header ends at coefficient 0",
    "test_files/MR_truncated.dcm": "its pixel data ends inside the only frame",
    "test_files/badVR.dcm": "its Number of Frames is no number, which pydicom does not get over",
    "test_files/meta_missing_tsyntax.dcm": "two bytes of pixel data, without Rows and Columns",
    "test_files/nested_priv_SQ.dcm": "two bytes of pixel data, without Rows and Columns",
}

# Files that are rendered otherwise than by dcmj2pnm, each with the reason.
NOT_RENDERED_ALIKE = {}
