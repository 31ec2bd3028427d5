//! `collimator key`: API keys made and shut out by who has the database, without a server to ask. The
//! first key of an archive is made so.

use std::{io::Write as _, sync::Arc, time::Duration};

use anyhow::Context;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::beside::with_database;
use crate::{
    config::{Config, LogFormat},
    control::{Access, AccessRefusal, ApiKey, By, KeySettings, Keys, Partitions, SecretHash},
    identity::api_key::{self, NewSecret},
    index::Db,
    telemetry,
    tenancy::{
        Circumstances, Deed, PartitionId, PartitionScope, Permission, Permissions, Principal, Scope,
    },
};

/// What the audit log calls this command.
const COMMAND: &str = "collimator key";
/// Longest name, in characters.
const LONGEST_NAME: usize = 128;
/// Keys that are read at a time.
const PAGE: i64 = 200;

/// What is asked of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyAsked {
    /// A new key.
    Create {
        /// The partition that it is good for.
        partition: String,
        /// Its roles.
        roles: Vec<String>,
        /// What it is for.
        name: String,
        /// How long it is good.
        expires: Option<Duration>,
        /// Whether the partition may be made with it.
        with_partition: bool,
    },
    /// The keys of a partition.
    List {
        /// Which one.
        partition: String,
    },
    /// A key that is not to be taken any more.
    Disable {
        /// The partition that it is good for.
        partition: String,
        /// Its id.
        key: String,
    },
}

/// `collimator key`: makes, lists or disables API keys of a partition.
///
/// # Errors
/// Whatever kept it from doing so, in words for the operator.
pub fn keys(config: Config, asked: KeyAsked) -> anyhow::Result<()> {
    telemetry::logs::init(config.log.format == LogFormat::Json, &config.log.level)?;
    let said = with_database(&config, async |db| {
        let access = Access::new(db.clone(), &config.auth);
        let partitions =
            Partitions::new(db.clone(), access.clone(), &config.features, &config.partitions);
        answer(db, &partitions, &Keys::new(db.clone(), access, &config.auth), asked).await
    })?;
    // Whoever asked may have closed the pipe since.
    let _ = writeln!(std::io::stdout(), "{said}");
    Ok(())
}

async fn answer(
    db: &Db,
    partitions: &Partitions,
    keys: &Keys,
    asked: KeyAsked,
) -> anyhow::Result<String> {
    match asked {
        KeyAsked::Create { partition, roles, name, expires, with_partition } => {
            let settings = settings(roles, name, expires)?;
            let partition = partition.parse()?;
            let deed = Arc::new(Deed::by_command(Permission::ManagePrincipals, COMMAND));
            if with_partition {
                partitions.ensure(&partition, Some(&deed)).await?;
            }
            create(keys, &scope(db, &partition, deed).await?, &settings).await
        }
        KeyAsked::List { partition } => {
            let deed = Arc::new(Deed::by_command(Permission::ReadPrincipals, COMMAND));
            list(keys, &scope(db, &partition.parse()?, deed).await?).await
        }
        KeyAsked::Disable { partition, key } => {
            let id = key.strip_prefix(api_key::PREFIX).unwrap_or(&key);
            let id = id.split('_').next().unwrap_or_default();
            let id =
                Uuid::parse_str(id).context("the id of a key is a UUID, as `list` shows it")?;
            let deed = Arc::new(Deed::by_command(Permission::ManagePrincipals, COMMAND));
            let scope = scope(db, &partition.parse()?, deed).await?;
            let disable = |settings: &mut KeySettings| settings.is_disabled = true;
            keys.change(&by(&scope, &Circumstances::default()), id, disable).await.map_err(told)?;
            Ok(format!("The API key {} is disabled.", id.simple()))
        }
    }
}

/// The scope of a partition that exists, for what is done there: with it goes its record.
pub(super) async fn scope(
    db: &Db,
    partition: &PartitionId,
    deed: Arc<Deed>,
) -> anyhow::Result<PartitionScope> {
    if !db.registry().await?.partition_exists(partition).await? {
        anyhow::bail!(
            "there is no partition {partition}; --create-partition, where a command has it, makes it"
        );
    }
    #[expect(clippy::disallowed_methods, reason = "asked by who has the database")]
    let scope = Scope::for_maintenance(partition);
    Ok(Scope::clone(&scope).for_deed(deed).try_into()?)
}

fn by<'a>(scope: &'a PartitionScope, around: &'a Circumstances) -> By<'a> {
    By { scope, who: &Principal::Anonymous, around, insists: true, name: Some("command line") }
}

fn settings(
    roles: Vec<String>,
    name: String,
    expires: Option<Duration>,
) -> anyhow::Result<KeySettings> {
    if name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        anyhow::bail!("a name has up to {LONGEST_NAME} characters, and no control characters");
    }
    let now = OffsetDateTime::now_utc();
    let at = |time| now.checked_add(time).filter(|at| at.year() <= 9998);
    let expires = expires.map(|time| {
        let time = time::Duration::try_from(time).ok();
        time.and_then(at).context("the key would expire too late to be written down")
    });
    Ok(KeySettings {
        name,
        roles: roles.into_iter().map(String::into_boxed_str).collect(),
        permissions: Permissions::NONE,
        expires_at: expires.transpose()?,
        is_disabled: false,
    })
}

async fn create(
    keys: &Keys,
    scope: &PartitionScope,
    settings: &KeySettings,
) -> anyhow::Result<String> {
    let (id, secret) = (Uuid::new_v4(), NewSecret::generate());
    let prefix = api_key::prefix(id);
    let kept = (&*prefix, SecretHash(secret.hash()));
    let around = Circumstances::default();
    keys.add(&by(scope, &around), id, settings, kept).await.map_err(told)?;
    Ok(secret.shown(scope.partition(), id))
}

async fn list(keys: &Keys, scope: &PartitionScope) -> anyhow::Result<String> {
    let mut lines = Vec::new();
    loop {
        let page = keys.list(scope, (PAGE, lines.len() as i64)).await?;
        let is_last = (page.len() as i64) < PAGE;
        lines.extend(page.iter().map(line));
        if is_last {
            break;
        }
    }
    if lines.is_empty() {
        lines.push("There are no API keys.".to_owned());
    }
    Ok(lines.join("\n"))
}

/// A key in one line, with nothing in it that a terminal would take for more than text.
fn line(key: &ApiKey) -> String {
    let moment = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let settings = &key.settings;
    let state = if settings.is_disabled { "disabled" } else { "enabled" };
    let more = settings.permissions.iter().map(|permission| permission.as_str());
    let has: Vec<&str> = settings.roles.iter().map(|role| &**role).chain(more).collect();
    let expires = settings.expires_at.map_or_else(|| "never".to_owned(), moment);
    let used = key.last_used_at.map_or_else(|| "never".to_owned(), moment);
    let (id, has) = (key.id.simple(), has.join(","));
    format!("{id}  {state}  has {has}  expires {expires}  used {used}  {}", settings.name)
}

fn told(refusal: AccessRefusal) -> anyhow::Error {
    match refusal {
        AccessRefusal::NotFound => anyhow::anyhow!("there is no such API key"),
        AccessRefusal::UnknownRole => {
            anyhow::anyhow!("the partition has no such role, or cannot give it to an API key")
        }
        other => other.into(),
    }
}
