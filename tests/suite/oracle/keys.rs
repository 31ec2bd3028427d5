//! Values of keys, made from a value that is stored: the same, a part of it, a range around it,
//! another spelling of it, or something else.

use super::{data::NAMES, random::Random, rules::How};

/// A value for a key of a VR.
pub fn value(random: &mut Random, vr: &str, sample: Option<&str>, how: How) -> String {
    if random.chance(6) {
        return (*random.pick(&["", "*", "**"])).to_owned();
    }
    if random.chance(if how.empty { 30 } else { 1 }) && !is_strict(vr, how) {
        return "\"\"".to_owned();
    }
    let sample = sample.map_or_else(|| other(random, vr), str::to_owned);
    let several = ["AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC"].contains(&vr);
    if how.multiple && several && random.chance(60) {
        let more = if random.chance(50) { sample.clone() } else { other(random, vr) };
        return format!("{}\\{}", sample.trim(), more.trim());
    }
    match vr {
        "PN" => name(random, &sample, how),
        "UI" => match random.below(4) {
            0 => format!("{sample},1.2.3.99"),
            1 => format!("1.2.3.98\\{sample}"),
            _ => sample,
        },
        "DA" => date(random, &sample),
        "TM" => time(random, &sample),
        "DT" => date_time(random, &sample),
        "IS" | "SL" | "SS" | "SV" | "UL" | "US" | "UV" => match random.below(4) {
            0 if !sample.starts_with(['-', '+']) => format!("00{sample}"),
            1 => format!(" {sample} "),
            _ => sample,
        },
        "DS" | "FD" | "FL" => match random.below(4) {
            0 => sample.parse::<f64>().map_or(sample.clone(), |number| format!("{number:e}")),
            1 => sample.parse::<f64>().map_or(sample.clone(), |number| format!("{number:.3}")),
            _ => sample,
        },
        "AT" => match random.chance(50) {
            true => sample.to_lowercase(),
            false => sample,
        },
        "AS" => sample,
        _ => text(random, &sample),
    }
}

/// VRs that have no two quotes as a value.
fn is_strict(vr: &str, how: How) -> bool {
    let strict =
        ["AT", "DA", "DS", "DT", "FD", "FL", "IS", "SL", "SS", "SV", "TM", "UI", "UL", "US", "UV"];
    !how.empty && strict.contains(&vr)
}

/// Something that may be stored somewhere.
fn other(random: &mut Random, vr: &str) -> String {
    let pool: &[&str] = match vr {
        "PN" => NAMES,
        "UI" => &["1.2.100", "1.2.77.1", "1.2.840.10008.5.1.4.1.1.2"],
        "DA" => &["20240102", "19500101", "20240229"],
        "TM" => &["10", "1015", "101530.5", "235959"],
        "DT" => &["2024", "20240102", "20240102101530+0000"],
        "IS" | "SL" | "SS" | "SV" | "UL" | "US" | "UV" => &["1", "4", "7", "0", "512"],
        "DS" | "FD" | "FL" => &["1", "1.5", "-2.25", "0"],
        "AT" => &["00100010", "0008103E"],
        "AS" => &["045Y", "003M"],
        "CS" => &["CT", "MR", "M", "HEAD", "AXIAL", "ORIGINAL", "TEXT"],
        _ => &["ACC1", "PAT1", "HOSP A", "Head", "1", "SPS1", "RP1", "AET1", "nil", "alpha", "SRT"],
    };
    (*random.pick(pool)).to_owned()
}

fn text(random: &mut Random, sample: &str) -> String {
    // What has more than one line cannot be asked for whole.
    let line = sample.split('\r').next().unwrap_or_default();
    if line.len() < sample.len() {
        return format!("{line}*");
    }
    match random.below(8) {
        0..3 => line.to_owned(),
        3 => format!(" {line} "),
        4 => line.to_lowercase(),
        _ => pattern(random, line),
    }
}

/// A pattern, mostly one that the text matches.
fn pattern(random: &mut Random, text: &str) -> String {
    let chars: Vec<char> = text.trim().chars().collect();
    if chars.is_empty() {
        return "?*".to_owned();
    }
    let (a, b) = (random.below(chars.len()), random.below(chars.len()));
    let (from, to) = (a.min(b), a.max(b) + 1);
    let part = |from: usize, to: usize| chars[from..to].iter().collect::<String>();
    match random.below(7) {
        0 | 1 => format!("{}*", part(0, to)),
        2 => format!("*{}", part(from, chars.len())),
        3 => format!("*{}*", part(from, to)),
        4 => format!("{}?{}", part(0, from), part(from + 1, chars.len())),
        5 => format!("{}*{}", part(0, from), part(to, chars.len())),
        _ => format!("{}?", part(0, to)),
    }
}

fn name(random: &mut Random, sample: &str, how: How) -> String {
    let groups: Vec<&str> = sample.split('=').filter(|group| !group.trim().is_empty()).collect();
    let group = *random.pick(&groups);
    if how.fuzzy {
        return fuzzy(random, group, sample);
    }
    match random.below(9) {
        0 | 1 => group.to_owned(),
        2 => sample.to_owned(),
        3 => group.to_uppercase(),
        4 => group.to_lowercase(),
        5 => format!("{group}^^"),
        6 => format!("{}={}", pattern(random, group), random.pick(&groups)),
        7 => plain(group),
        _ => pattern(random, group),
    }
}

/// Words of a name, cut and turned around, or those of a name that sounds alike.
fn fuzzy(random: &mut Random, group: &str, sample: &str) -> String {
    let mut words: Vec<String> = group
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| {
            let chars: Vec<char> = word.chars().collect();
            let end = if random.chance(50) { chars.len() } else { 1 + random.below(chars.len()) };
            chars[..end].iter().collect()
        })
        .collect();
    random.shuffle(&mut words);
    words.truncate(1 + random.below(3));
    let between = *random.pick(&["^", " ", ", ", "="]);
    match random.below(7) {
        0 => (*random.pick(NAMES)).to_owned(),
        1 => sample.to_owned(),
        2 => words.join(between).to_uppercase(),
        3 => plain(&words.join(between)),
        4 => format!("{}*", words.join(between)),
        5 => {
            (*random.pick(&["Jörg", "Jon", "Schmid", "Mayr", "Kathrin", "Filips", "^"])).to_owned()
        }
        _ => words.join(between),
    }
}

/// Without the accents that a keyboard may lack.
fn plain(text: &str) -> String {
    let table =
        [('ü', "u"), ('ö', "o"), ('é', "e"), ('á', "a"), ('ú', "u"), ('ñ', "n"), ('í', "i")];
    text.chars()
        .map(|c| {
            table.iter().find(|(from, _)| *from == c).map_or(c.to_string(), |(_, to)| (*to).into())
        })
        .collect()
}

const DAYS: &[&str] =
    &["20231231", "20240101", "20240102", "20240103", "20240229", "20240301", "20250101"];

fn date(random: &mut Random, sample: &str) -> String {
    let sample = sample.replace('.', "");
    let other = (*random.pick(DAYS)).to_owned();
    let (from, to) = (sample.clone().min(other.clone()), sample.clone().max(other));
    match random.below(8) {
        0..3 => sample,
        3 if sample.len() == 8 => format!("{}.{}.{}", &sample[..4], &sample[4..6], &sample[6..]),
        4 => format!("{sample}-"),
        5 => format!("-{sample}"),
        _ => format!("{from}-{to}"),
    }
}

fn time(random: &mut Random, sample: &str) -> String {
    let sample = sample.replace(':', "");
    let whole = sample.split('.').next().unwrap_or_default().to_owned();
    let other =
        (*random.pick(&["00", "0759", "10", "1015", "101530.5", "12", "2230", "2359"])).to_owned();
    let cut = whole[..2 * (1 + random.below(whole.len() / 2))].to_owned();
    // Padded, so that text compares as time does.
    let full = |text: &str| format!("{text:0<6}");
    match random.below(8) {
        0 | 1 => sample,
        2 | 3 => cut,
        4 => format!("{sample}-"),
        5 => format!("-{cut}"),
        _ if full(&whole) <= full(&other) => format!("{sample}-{other}"),
        _ => format!("{other}-{sample}"),
    }
}

fn date_time(random: &mut Random, sample: &str) -> String {
    let other =
        *random.pick(&["2023", "202401", "20240102", "202401021015-0500", "2024010212+0100"]);
    match random.below(7) {
        0 | 1 => sample.to_owned(),
        2 => sample[..sample.len().min(*random.pick(&[4, 6, 8]))].to_owned(),
        3 => format!("{sample}-"),
        4 => format!("-{sample}"),
        5 => format!("2023-{sample}"),
        _ => format!("{other}-2026"),
    }
}

/// A date and a time that belong together.
pub fn pair(random: &mut Random, day: Option<&str>, clock: Option<&str>) -> [String; 2] {
    let day = day.map_or_else(|| (*random.pick(DAYS)).to_owned(), |day| day.replace('.', ""));
    let clock = clock.map_or_else(|| "101530".to_owned(), |clock| clock.replace(':', ""));
    let (early, late) = ("19000101", "20250102");
    let hours = ["00", "0800", "1015", "101530", "12", "2230", "235959.5"];
    let (one, two) = (*random.pick(&hours), *random.pick(&hours));
    match random.below(9) {
        // From one day to another, whatever the hours.
        0 => [format!("{early}-{day}"), format!("{one}-{clock}")],
        1 => [format!("{day}-{late}"), format!("{clock}-{one}")],
        2 => ["20240101-20240301".to_owned(), format!("{one}-{two}")],
        3 => [format!("{day}-"), format!("{clock}-")],
        4 => [format!("-{day}"), format!("-{clock}")],
        5 => [format!("{day}-"), time(random, &clock)],
        6 => [day, time(random, &clock)],
        7 => [date(random, &day), clock],
        _ => [format!("{early}-{day}"), format!("-{clock}")],
    }
}
