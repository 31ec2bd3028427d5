//! Data sets from a seed: values come from small pools, so that much matches, and some is missing,
//! empty, repeated, of less precision, or different within one study.

use std::ops::Range;

use super::{
    model::{DataSet, SERIES_UID, SOP_UID, STUDY_UID, Tag},
    random::Random,
};

pub const NAMES: &[&str] = &[
    "Müller^Jörg",
    "MUELLER^JÖRG",
    "Mueller^Joerg^^Dr.",
    "Meier^Anna",
    "Mayer^Anne",
    "Meyer^Hanna Maria",
    "Maier^Jörg",
    "Smith^John",
    "Smyth^Jon",
    "Schmidt^Catherine",
    "Schmitt^Katherine^M",
    "Stephens^Michael",
    "Stevens^Micheal",
    "Philips^Thomas",
    "O'Brien^Seán",
    "Doe^Jane",
    "doe^jane^^^",
    "Doe-Smith^ Mary  Ann ",
    "Straße^Günther",
    "Łukasz^Ørsted",
    "Núñez^José María",
    "de la Cruz^Ana",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ﾔﾏﾀﾞ^ﾀﾛｳ=ヤマダ^タロウ",
    "=山田^花子",
    "==やまだ^はなこ",
    "Hong^Gildong=洪^吉洞=홍^길동",
    "Wang^XiaoDong=王^小东",
    "Διονυσίου^Μαρία",
    "ΔΙΟΝΥΣΙΟΥ^ΜΑΡΙΑΣ",
    "Йванов^Ёж",
    "Люкceмбypг",
    "ＡＢＣ^Wide",
    "100%_Real^Name*?",
    "X",
];
const DATES: &[&str] = &[
    "20231231",
    "20240101",
    "20240102",
    "20240102",
    "20240103",
    "20240229",
    "20240301",
    "20240301",
    "2024.03.02",
    "20250101",
];
const TIMES: &[&str] = &[
    "00",
    "0000",
    "000000.000001",
    "0759",
    "10",
    "1015",
    "101500",
    "101530",
    "101530.5",
    "101530.55",
    "101530.500000",
    "12:00",
    "12:00:30",
    "2230",
    "223000",
    "223059.999999",
    "2359",
    "235959",
];
const ZONES: &[&str] = &["+0000", "+0100", "-0500", "+0530", "+1400", "-1200"];
const DATE_TIMES: &[&str] = &[
    "2024",
    "202401",
    "20240102",
    "2024010210",
    "202401021015",
    "20240102101530",
    "20240102101530.5",
    "20240102101530+0000",
    "20240102101530-0500",
    "2024010215+0100",
    "20240102101530.123456+0530",
    "20231231233000-0100",
    "20240229",
    "20250101+1200",
];
const BIRTHDAYS: &[&str] = &["19500101", "19500102", "19720229", "19991231", "20200615"];
const IDS: &[&str] = &["PAT1", "PAT2", "pat1", "PAT 3", "PAT-4", "P*T", "12345", "0012345", "PÄT"];
const ISSUERS: &[&str] = &["HOSP A", "HOSP B", "hosp a"];
const ACCESSIONS: &[&str] = &["ACC1", "ACC2", "acc1", "A.1", "2024-001", "2024-002", "\"\""];
const DESCRIPTIONS: &[&str] = &[
    "Head [AXIAL]",
    "Head",
    "head",
    "CT Thorax w/ contrast",
    "Thorax 50%",
    "Schädel^nativ",
    "a_b%c",
    "頭部",
    "Knee, left",
    "**",
];
const MODALITIES: &[&str] = &["CT", "MR", "PT", "US", "SR"];
const PARTS: &[&str] = &["HEAD", "KNEE", "CHEST", "ABDOMEN"];
const STATIONS: &[&str] = &["CT01", "CT02", "MR 1"];
const IMAGE_TYPES: &[&str] = &["ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL", "MPR"];
const CLASSES: &[&str] = &[
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.128",
    "1.2.840.10008.5.1.4.1.1.6.1",
    "1.2.840.10008.5.1.4.1.1.88.11",
];
const TITLES: &[&str] = &["AET1", "AET2", "aet1", "STORE SCP"];
const DECIMALS: &[&str] = &["1", "1.0", "1.50", "1.5", "-2.25", "0", "-0.0", "1e2", "100", "+3"];
const INTEGERS: &[&str] = &["1", "01", "2", "3", "+4", "-5", "10", "0"];
const FRAMES: &[&str] = &["1.2.77.1", "1.2.77.2", "1.2.77.3"];
const AGES: &[&str] = &["045Y", "046Y", "003M", "010D"];
const COMMENTS: &[&str] = &[
    "nil",
    "allergic to iodine",
    "  indented",
    "line one\r\nline two",
    "path\\to\\file",
    "Größe unklar",
];
const CODES: &[(&str, &str, &str)] =
    &[("T-D1100", "SRT", "Head"), ("T-D3000", "SRT", "Chest"), ("CTH", "99LOCAL", "Kopf")];
const STEPS: &[&str] = &["SPS1", "SPS2", "SPS 3"];
const PROCEDURES: &[&str] = &["RP1", "RP2", "rp1"];
const TAGS: &[&str] = &["00100010", "0008103E", "00280009"];
const BIG_SIGNED: &[&str] = &["-9223372036854775808", "9007199254740993", "5", "-5"];
const BIG_UNSIGNED: &[&str] = &["18446744073709551615", "9007199254740993", "5"];
const FLOATS: &[&str] = &["0.5", "1.5", "-2.25", "0.1", "1e10"];
const ADDRESSES: &[&str] = &["Main Street 1", "MAIN STREET 1", "Hauptstraße 2\r\nBerlin"];
const URLS: &[&str] = &["http://codes.example.org/a?b=c&d", "http://codes.example.org/b"];
const LONG_CODES: &[&str] = &["A-VERY-LONG-CODE-VALUE-INDEED", "A-VERY-LONG-CODE-VALUE"];
/// Creator, and the elements of its block that are in use.
pub const CREATORS: &[(&str, &[u8])] = &[("ACME 1.1", &[0x01, 0x02]), ("Other^Creator", &[0x01])];
const PRIVATE: &[&str] = &["alpha", "beta", "Gamma 3", "ÄÖÜ"];

/// The data sets of one partition, in the order in which they are stored: one request after
/// another, each of one study and ascending by SOP Instance UID.
pub fn requests(random: &mut Random, studies: Range<usize>) -> Vec<Vec<DataSet>> {
    let mut requests = Vec::new();
    for number in studies {
        let instances = study(random, &format!("1.2.{}", 100 + number));
        // Dealt to one to three requests.
        let mut parts = vec![Vec::new(); 1 + random.below(3)];
        for instance in instances {
            let part = random.below(parts.len());
            parts[part].push(instance);
        }
        requests.extend(parts.into_iter().filter(|part| !part.is_empty()));
    }
    random.shuffle(&mut requests);
    requests
}

/// The instances of a study.
fn study(random: &mut Random, uid: &str) -> Vec<DataSet> {
    let mut of_study = DataSet::default();
    of_study.set(STUDY_UID, "UI", &[uid]);
    study_attributes(random, &mut of_study);
    let disagrees = random.chance(30);
    let mut instances = Vec::new();
    for series in 0..1 + random.below(4) {
        let series_uid = format!("{uid}.{}", 10 + series);
        let mut of_series = of_study.clone();
        of_series.set(SERIES_UID, "UI", &[&series_uid]);
        series_attributes(random, &mut of_series);
        for instance in 0..1 + random.below(3) {
            let mut data = of_series.clone();
            data.set(SOP_UID, "UI", &[&format!("{series_uid}.{}", 10 + instance)]);
            if disagrees && random.chance(50) {
                study_attributes(random, &mut data);
            }
            if random.chance(10) {
                series_attributes(random, &mut data);
            }
            instance_attributes(random, &mut data);
            instances.push(data);
        }
    }
    instances
}

/// Writes data sets: an attribute is missing, empty, or has values of a pool.
struct Writer<'a> {
    random: &'a mut Random,
    data: &'a mut DataSet,
}

impl Writer<'_> {
    fn one(&mut self, tag: Tag, vr: &'static str, pool: &[&str]) {
        self.some(tag, vr, pool, 1);
    }

    fn some(&mut self, tag: Tag, vr: &'static str, pool: &[&str], most: usize) {
        match self.random.below(100) {
            0..15 => _ = self.data.0.remove(&tag),
            15..22 => _ = self.data.set(tag, vr, &[]),
            _ => {
                let count = 1 + self.random.below(most);
                let mut values: Vec<&str> = (0..count).map(|_| *self.random.pick(pool)).collect();
                // A text of several may have one that is empty; a binary number cannot.
                if count > 1 && !["SV", "UV", "UI"].contains(&vr) && self.random.chance(10) {
                    values[0] = "";
                }
                self.data.set(tag, vr, &values);
            }
        }
    }

    fn codes(&mut self) -> Vec<DataSet> {
        let count = self.random.below(3);
        (0..count)
            .map(|_| {
                let (value, scheme, meaning) = *self.random.pick(CODES);
                let mut item = DataSet::default();
                item.set((0x0008, 0x0100), "SH", &[value])
                    .set((0x0008, 0x0102), "SH", &[scheme])
                    .set((0x0008, 0x0104), "LO", &[meaning]);
                item
            })
            .collect()
    }

    fn items(&mut self, most: usize, write: impl Fn(&mut Writer<'_>)) -> Vec<DataSet> {
        let count = self.random.below(most + 1);
        (0..count)
            .map(|_| {
                let mut item = DataSet::default();
                write(&mut Writer { random: self.random, data: &mut item });
                item
            })
            .collect()
    }

    fn sequence(&mut self, tag: Tag, items: Vec<DataSet>) {
        match self.random.chance(20) {
            true => _ = self.data.0.remove(&tag),
            false => _ = self.data.items(tag, items),
        }
    }
}

fn study_attributes(random: &mut Random, data: &mut DataSet) {
    let mut w = Writer { random, data };
    w.one((0x0008, 0x0020), "DA", DATES);
    w.one((0x0008, 0x0030), "TM", TIMES);
    w.one((0x0008, 0x0050), "SH", ACCESSIONS);
    w.one((0x0008, 0x0090), "PN", NAMES);
    w.one((0x0008, 0x0201), "SH", ZONES);
    w.one((0x0008, 0x1030), "LO", DESCRIPTIONS);
    let codes = w.codes();
    w.sequence((0x0008, 0x1032), codes);
    w.some((0x0008, 0x1048), "PN", NAMES, 3);
    w.one((0x0010, 0x0010), "PN", NAMES);
    w.one((0x0010, 0x0020), "LO", IDS);
    w.one((0x0010, 0x0021), "LO", ISSUERS);
    w.one((0x0010, 0x0030), "DA", BIRTHDAYS);
    w.one((0x0010, 0x0032), "TM", TIMES);
    w.one((0x0010, 0x0040), "CS", &["M", "F", "O"]);
    w.some((0x0010, 0x1000), "LO", IDS, 3);
    w.some((0x0010, 0x1001), "PN", NAMES, 2);
    let others = w.items(3, |w| {
        w.one((0x0010, 0x0020), "LO", IDS);
        w.one((0x0010, 0x0021), "LO", ISSUERS);
        w.one((0x0010, 0x0022), "CS", &["TEXT", "RFID"]);
    });
    w.sequence((0x0010, 0x1002), others);
    w.one((0x0010, 0x1010), "AS", AGES);
    w.one((0x0010, 0x1030), "DS", DECIMALS);
    w.one((0x0010, 0x4000), "LT", COMMENTS);
    w.one((0x0020, 0x0010), "SH", &["1", "2", "STUDY 3"]);
}

fn series_attributes(random: &mut Random, data: &mut DataSet) {
    let mut w = Writer { random, data };
    w.one((0x0008, 0x0021), "DA", DATES);
    w.one((0x0008, 0x0031), "TM", TIMES);
    w.one((0x0008, 0x0060), "CS", MODALITIES);
    w.one((0x0008, 0x0080), "LO", ISSUERS);
    w.one((0x0008, 0x1010), "SH", STATIONS);
    w.one((0x0008, 0x103E), "LO", DESCRIPTIONS);
    w.some((0x0008, 0x1070), "PN", NAMES, 3);
    w.one((0x0008, 0x1090), "LO", STATIONS);
    w.one((0x0018, 0x0015), "CS", PARTS);
    w.one((0x0018, 0x1030), "LO", DESCRIPTIONS);
    w.one((0x0020, 0x0011), "IS", INTEGERS);
    w.one((0x0020, 0x0052), "UI", FRAMES);
    w.one((0x0040, 0x0244), "DA", DATES);
    w.one((0x0040, 0x0245), "TM", TIMES);
    let requests = w.items(3, |w| {
        w.one((0x0040, 0x0009), "SH", STEPS);
        w.one((0x0040, 0x1001), "SH", PROCEDURES);
        w.one((0x0040, 0x0007), "LO", DESCRIPTIONS);
        let codes = w.codes();
        w.sequence((0x0032, 0x1064), codes);
    });
    w.sequence((0x0040, 0x0275), requests);
}

fn instance_attributes(random: &mut Random, data: &mut DataSet) {
    let class = *random.pick(CLASSES);
    data.set((0x0008, 0x0016), "UI", &[class]);
    let mut w = Writer { random, data };
    w.some((0x0008, 0x0008), "CS", IMAGE_TYPES, 4);
    w.some((0x0008, 0x001A), "UI", CLASSES, 2);
    w.one((0x0008, 0x0022), "DA", DATES);
    w.one((0x0008, 0x002A), "DT", DATE_TIMES);
    w.one((0x0008, 0x0032), "TM", TIMES);
    w.some((0x0008, 0x0054), "AE", TITLES, 2);
    w.one((0x0008, 0x0081), "ST", ADDRESSES);
    w.some((0x0008, 0x009C), "PN", NAMES, 2);
    w.one((0x0008, 0x010E), "UR", URLS);
    w.one((0x0008, 0x0119), "UC", LONG_CODES);
    w.one((0x0008, 0x9459), "FL", FLOATS);
    w.one((0x0018, 0x0060), "DS", DECIMALS);
    w.one((0x0018, 0x6018), "UL", &["0", "7", "4294967295"]);
    w.one((0x0018, 0x6020), "SL", &["0", "-7", "2147483647"]);
    w.one((0x0018, 0x9073), "FD", FLOATS);
    w.one((0x0018, 0x9219), "SS", &["0", "-7", "32767"]);
    w.one((0x0020, 0x0013), "IS", INTEGERS);
    w.one((0x0020, 0x1041), "DS", DECIMALS);
    w.one((0x0028, 0x0010), "US", &["4", "512", "65535"]);
    w.one((0x0028, 0x0011), "US", &["4", "512"]);
    w.one((0x0028, 0x0100), "US", &["8", "16"]);
    w.one((0x0040, 0xA120), "DT", DATE_TIMES);
    w.one((0x0040, 0xA160), "UT", COMMENTS);
    let content = w.items(3, |w| {
        w.one((0x0040, 0x0244), "DA", DATES);
        w.one((0x0040, 0x0245), "TM", TIMES);
        w.one((0x0040, 0xA040), "CS", &["TEXT", "CODE", "PNAME"]);
        let codes = w.codes();
        w.sequence((0x0040, 0xA043), codes);
        w.one((0x0040, 0xA123), "PN", NAMES);
        w.one((0x0040, 0xA160), "UT", COMMENTS);
    });
    w.sequence((0x0040, 0xA730), content);
    w.one((0x0072, 0x0026), "AT", TAGS);
    w.some((0x0072, 0x0082), "SV", BIG_SIGNED, 2);
    w.some((0x0072, 0x0083), "UV", BIG_UNSIGNED, 2);
    // Whoever comes first reserves the first block; sometimes the blocks lie elsewhere.
    let mut block = if w.random.chance(30) { 0x42 } else { 0x10 };
    let mut creators = CREATORS.to_vec();
    w.random.shuffle(&mut creators);
    for (creator, elements) in creators {
        if w.random.chance(30) {
            continue;
        }
        w.data.set((0x0009, block), "LO", &[creator]);
        for element in elements {
            w.one((0x0009, block << 8 | u16::from(*element)), "LO", PRIVATE);
        }
        block += 1;
    }
}
