//! A made-up hospital group, as large as wanted: what its studies, series and instances say.
//!
//! Holds: everything about study `n` follows from `n`, so that whoever knows the size of the
//! population also knows what can be found in it; values are about as common as in real archives
//! (few surnames are very common, most are rare; ten years of studies; CT and MR lead). Absent:
//! pixels.

/// How many studies, in how many partitions.
#[derive(Clone, Copy, Debug)]
pub struct Population {
    pub studies: u64,
    pub partitions: u64,
    pub series: u64,
    pub instances: u64,
}

/// What a study says.
#[derive(Clone, Debug)]
pub struct Study {
    pub number: u64,
    pub uid: String,
    pub family: String,
    pub given: String,
    pub patient_id: String,
    pub birth_date: String,
    pub sex: &'static str,
    pub date: String,
    pub time: String,
    pub accession: String,
    pub study_id: String,
    pub description: &'static str,
    pub referring: String,
    pub modality: &'static str,
}

const UID_ROOT: &str = "1.2.826.0.1.3680043.10.1605";

const FAMILIES: [&str; 64] = [
    "Smith",
    "Johnson",
    "Williams",
    "Brown",
    "Jones",
    "Garcia",
    "Miller",
    "Davis",
    "Rodriguez",
    "Martinez",
    "Hernandez",
    "Lopez",
    "Gonzalez",
    "Wilson",
    "Anderson",
    "Thomas",
    "Taylor",
    "Moore",
    "Jackson",
    "Martin",
    "Lee",
    "Perez",
    "Thompson",
    "White",
    "Harris",
    "Sanchez",
    "Clark",
    "Ramirez",
    "Lewis",
    "Robinson",
    "Walker",
    "Young",
    "Allen",
    "King",
    "Wright",
    "Scott",
    "Torres",
    "Nguyen",
    "Hill",
    "Flores",
    "Green",
    "Adams",
    "Nelson",
    "Baker",
    "Hall",
    "Rivera",
    "Campbell",
    "Mitchell",
    "Carter",
    "Roberts",
    "Müller",
    "Schmidt",
    "Schneider",
    "Fischer",
    "Weber",
    "Meyer",
    "Wagner",
    "Becker",
    "Schulz",
    "Hoffmann",
    "Novák",
    "Kowalski",
    "Rossi",
    "Dubois",
];

const GIVEN: [&str; 48] = [
    "James",
    "Mary",
    "Robert",
    "Patricia",
    "John",
    "Jennifer",
    "Michael",
    "Linda",
    "David",
    "Elizabeth",
    "William",
    "Barbara",
    "Richard",
    "Susan",
    "Joseph",
    "Jessica",
    "Thomas",
    "Sarah",
    "Charles",
    "Karen",
    "Daniel",
    "Lisa",
    "Matthew",
    "Nancy",
    "Anthony",
    "Betty",
    "Mark",
    "Sandra",
    "Donald",
    "Margaret",
    "Steven",
    "Ashley",
    "Andrew",
    "Emily",
    "Paul",
    "Donna",
    "Joshua",
    "Anna",
    "Jürgen",
    "Zoë",
    "Hans",
    "Greta",
    "Łukasz",
    "Ines",
    "Pavel",
    "Irene",
    "Olga",
    "Xaver",
];

const ONSETS: [&str; 16] =
    ["B", "Br", "D", "F", "G", "H", "K", "Kr", "L", "M", "N", "P", "R", "St", "T", "V"];
const NUCLEI: [&str; 8] = ["a", "e", "i", "o", "u", "au", "ei", "oo"];
const CODAS: [&str; 16] = [
    "b", "ck", "der", "ff", "gner", "ler", "mann", "ner", "rt", "s", "sen", "ski", "son", "tter",
    "x", "z",
];

const DESCRIPTIONS: [&str; 24] = [
    "CT ABDOMEN WITH CONTRAST",
    "CT HEAD WITHOUT CONTRAST",
    "CT CHEST",
    "CT ANGIO AORTA",
    "MR BRAIN",
    "MR LUMBAR SPINE",
    "MR KNEE LEFT",
    "MR KNEE RIGHT",
    "MR PROSTATE",
    "CHEST PA LAT",
    "HAND LEFT",
    "HAND RIGHT",
    "FOOT 3 VIEWS",
    "US ABDOMEN",
    "US THYROID",
    "MAMMO SCREENING",
    "PET CT WHOLE BODY",
    "NM BONE SCAN",
    "CORONARY ANGIOGRAPHY",
    "TRAUMA SERIES",
    "FOLLOW UP",
    "CT SINUSES",
    "MR LIVER WITH CONTRAST",
    "SKULL 2 VIEWS",
];

/// Modality, SOP class, and how many of a thousand studies are of it.
const MODALITIES: [(&str, &str, u64); 9] = [
    ("CT", "1.2.840.10008.5.1.4.1.1.2", 300),
    ("MR", "1.2.840.10008.5.1.4.1.1.4", 220),
    ("DX", "1.2.840.10008.5.1.4.1.1.1.1", 210),
    ("US", "1.2.840.10008.5.1.4.1.1.6.1", 120),
    ("MG", "1.2.840.10008.5.1.4.1.1.1.2", 70),
    ("CR", "1.2.840.10008.5.1.4.1.1.1", 50),
    ("NM", "1.2.840.10008.5.1.4.1.1.20", 18),
    ("PT", "1.2.840.10008.5.1.4.1.1.128", 10),
    ("XA", "1.2.840.10008.5.1.4.1.1.12.1", 2),
];

const BODY_PARTS: [&str; 8] =
    ["ABDOMEN", "HEAD", "CHEST", "SPINE", "KNEE", "HAND", "BREAST", "PELVIS"];

/// A number that looks random and follows from its arguments (SplitMix64).
pub fn mix(number: u64, salt: u64) -> u64 {
    let mut z = number.wrapping_add(salt.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn pick<T: Copy>(list: &[T], number: u64) -> T {
    list[(number % list.len() as u64) as usize]
}

/// The surname of a patient: half of all are among the frequent ones, the first ones most of all.
fn family(patient: u64) -> String {
    let (kind, draw) = (mix(patient, 1), mix(patient, 2));
    if kind.is_multiple_of(2) {
        // The smaller of two draws: the earlier, the more frequent.
        let (a, b) = (draw % 64, (draw >> 32) % 64);
        return FAMILIES[a.min(b) as usize].to_owned();
    }
    let (onset, nucleus) = (pick(&ONSETS, draw), pick(&NUCLEI, draw >> 8));
    let (coda, more) = (pick(&CODAS, draw >> 16), pick(&CODAS, draw >> 24));
    if draw >> 63 == 0 {
        format!("{onset}{nucleus}{coda}")
    } else {
        format!("{onset}{nucleus}{coda}{more}")
    }
}

fn date(days: u64) -> String {
    // 2016-07-01 is the first day; months of 28 days would show, so real ones are counted.
    let (mut year, mut month, mut left) = (2016, 7, days);
    loop {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => 31,
        };
        if left < length {
            return format!("{year}{month:02}{:02}", left + 1);
        }
        left -= length;
        (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    }
}

/// Days over which studies are spread.
const DAYS: u64 = 3_652;

impl Population {
    pub fn partition(&self, number: u64) -> String {
        format!("p{:04}", number % self.partitions)
    }

    pub fn study(&self, number: u64) -> Study {
        // A patient stays in one partition: the same residue.
        let patients = (self.studies * 2 / 5 / self.partitions).max(1) * self.partitions;
        let within = mix(number, 3) % (patients / self.partitions);
        let patient = within * self.partitions + number % self.partitions;
        let born = mix(patient, 4);
        let second = mix(number, 5) % 86_400;
        let draw = mix(number, 6) % 1_000;
        let mut sum = 0;
        let modality = MODALITIES.iter().find(|(_, _, share)| {
            sum += share;
            draw < sum
        });
        let physician = mix(number, 7) % 500;
        Study {
            number,
            uid: format!("{UID_ROOT}.{number}"),
            family: family(patient),
            given: pick(&GIVEN, mix(patient, 8)).to_owned(),
            patient_id: format!("PID{patient:08}"),
            birth_date: format!(
                "{}{:02}{:02}",
                1930 + born % 90,
                1 + (born >> 16) % 12,
                1 + (born >> 32) % 28
            ),
            sex: if born >> 63 == 0 { "F" } else { "M" },
            date: date(mix(number, 9) % DAYS),
            time: format!("{:02}{:02}{:02}", second / 3600, second / 60 % 60, second % 60),
            accession: format!("ACC{number:09}"),
            study_id: format!("{}", mix(number, 10) % 1_000_000),
            description: pick(&DESCRIPTIONS, mix(number, 11)),
            referring: format!("{}^{}", family(1_000_000_000 + physician), pick(&GIVEN, physician)),
            modality: modality.map_or("OT", |(name, _, _)| name),
        }
    }

    /// The data set of an instance, Explicit VR Little Endian with its File Meta Information
    /// (PS3.10 §7): everything but pixels.
    pub fn file(&self, study: &Study, series: u64, instance: u64) -> Vec<u8> {
        let class = MODALITIES.iter().find(|(name, _, _)| *name == study.modality);
        let class = class.map_or("1.2.840.10008.5.1.4.1.1.7", |(_, class, _)| class);
        let series_uid = format!("{}.{}", study.uid, series + 1);
        let uid = format!("{series_uid}.{}", instance + 1);
        let place = mix(study.number, 12 + series);
        let mut out = DataSet::default();
        out.text(0x0008, 0x0005, b"CS", "ISO_IR 192");
        out.text(0x0008, 0x0016, b"UI", class);
        out.text(0x0008, 0x0018, b"UI", &uid);
        out.text(0x0008, 0x0020, b"DA", &study.date);
        out.text(0x0008, 0x0030, b"TM", &study.time);
        out.text(0x0008, 0x0050, b"SH", &study.accession);
        out.text(0x0008, 0x0060, b"CS", study.modality);
        out.text(0x0008, 0x0090, b"PN", &study.referring);
        out.text(0x0008, 0x1010, b"SH", &format!("STATION{:02}", place % 60));
        out.text(0x0008, 0x1030, b"LO", study.description);
        out.text(0x0008, 0x103E, b"LO", &format!("SERIES TYPE {:02}", place % 80));
        out.text(0x0008, 0x1090, b"LO", &format!("Model {:02}", place % 25));
        out.text(0x0010, 0x0010, b"PN", &format!("{}^{}", study.family, study.given));
        out.text(0x0010, 0x0020, b"LO", &study.patient_id);
        out.text(0x0010, 0x0030, b"DA", &study.birth_date);
        out.text(0x0010, 0x0040, b"CS", study.sex);
        out.text(0x0018, 0x0015, b"CS", pick(&BODY_PARTS, place));
        out.text(0x0018, 0x0050, b"DS", &format!("{}.5", place % 10));
        out.text(0x0020, 0x000D, b"UI", &study.uid);
        out.text(0x0020, 0x000E, b"UI", &series_uid);
        out.text(0x0020, 0x0010, b"SH", &study.study_id);
        out.text(0x0020, 0x0011, b"IS", &(series + 1).to_string());
        out.text(0x0020, 0x0013, b"IS", &(instance + 1).to_string());
        out.value(0x0028, 0x0010, b"US", &512_u16.to_le_bytes());
        out.value(0x0028, 0x0011, b"US", &512_u16.to_le_bytes());
        out.text(0x0040, 0x0244, b"DA", &study.date);
        out.text(0x0040, 0x0245, b"TM", &study.time);
        let mut item = DataSet::default();
        item.text(0x0040, 0x0009, b"SH", &format!("SPS{}", study.number));
        item.text(0x0040, 0x1001, b"SH", &format!("RP{}", study.number));
        out.sequence(0x0040, 0x0275, &item);

        let mut meta = DataSet::default();
        meta.text(0x0002, 0x0002, b"UI", class);
        meta.text(0x0002, 0x0003, b"UI", &uid);
        meta.text(0x0002, 0x0010, b"UI", "1.2.840.10008.1.2.1");
        let mut file = vec![0; 128];
        file.extend_from_slice(b"DICM");
        let mut length = DataSet::default();
        length.value(0x0002, 0x0000, b"UL", &(meta.0.len() as u32).to_le_bytes());
        file.extend_from_slice(&length.0);
        file.extend_from_slice(&meta.0);
        file.extend_from_slice(&out.0);
        file
    }
}

/// Elements in Explicit VR Little Endian (PS3.5 §7.1.2).
#[derive(Default)]
struct DataSet(Vec<u8>);

impl DataSet {
    fn header(&mut self, group: u16, element: u16, vr: &[u8; 2]) {
        self.0.extend_from_slice(&group.to_le_bytes());
        self.0.extend_from_slice(&element.to_le_bytes());
        self.0.extend_from_slice(vr);
    }

    fn value(&mut self, group: u16, element: u16, vr: &[u8; 2], value: &[u8]) {
        self.header(group, element, vr);
        self.0.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.0.extend_from_slice(value);
    }

    fn text(&mut self, group: u16, element: u16, vr: &[u8; 2], text: &str) {
        let mut value = text.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(if vr == b"UI" { 0 } else { b' ' });
        }
        self.value(group, element, vr, &value);
    }

    fn sequence(&mut self, group: u16, element: u16, item: &Self) {
        self.header(group, element, b"SQ");
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&(item.0.len() as u32 + 8).to_le_bytes());
        self.0.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0]);
        self.0.extend_from_slice(&(item.0.len() as u32).to_le_bytes());
        self.0.extend_from_slice(&item.0);
    }
}
