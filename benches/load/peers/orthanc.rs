//! Orthanc with its DICOMweb plugin, as it is by itself, and durable: it syncs every file. Its
//! index is in SQLite or in a Postgres with the settings of ours.

use std::{fs, process::Command};

use ::collimator::postgres::Embedded;
use anyhow::Context;
use serde_json::json;
use sqlx::ConnectOptions;

use super::{Folder, Process, Programs, Running, collimator::database_of, free_port};
use crate::{http::Base, processes::Group, site::Manner};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Index {
    Sqlite,
    Postgresql,
}

const PACKAGES: &str = "orthanc, orthanc-dicomweb, orthanc-postgresql";
/// Of a role that is reached through a socket in a folder of our own, for as long as this runs.
const PASSWORD: &str = "measured";

pub fn start(programs: &Programs, folder: Folder, index: Index) -> anyhow::Result<Running> {
    let plugin = |name: &str| {
        let path = programs.orthanc_plugins.join(name);
        anyhow::ensure!(path.exists(), "{} is not there (Debian: {PACKAGES})", path.display());
        Ok(path)
    };
    let mut plugins = vec![plugin("libOrthancDicomWeb.so")?];
    let port = free_port()?;
    let mut configuration = json!({
        "Name": "load",
        "StorageDirectory": folder.path().join("storage"),
        "IndexDirectory": folder.path().join("index"),
        "SyncStorageArea": true,
        "HttpPort": port,
        // Known to newer ones; older ones listen everywhere and refuse all but loopback.
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": false,
        "AuthenticationEnabled": false,
        "DicomServerEnabled": false,
        "DicomWeb": { "Enable": true, "Root": "/dicom-web/" },
    });
    let mut database = None;
    if index == Index::Postgresql {
        plugins.push(plugin("libOrthancPostgreSQLIndex.so")?);
        let postgres = Embedded::start(folder.path(), None)?;
        prepare(&postgres).context("its database cannot be made")?;
        let sockets = folder.path().join("pg/run");
        configuration["PostgreSQL"] = json!({
            "EnableIndex": true,
            "EnableStorage": false,
            "ConnectionUri":
                format!("postgresql://orthanc:{PASSWORD}@/orthanc?host={}", sockets.display()),
        });
        database = Some(postgres);
    }
    configuration["Plugins"] = json!(plugins);
    let file = folder.path().join("orthanc.json");
    fs::write(&file, serde_json::to_string_pretty(&configuration)?)?;
    let mut command = Command::new(&programs.orthanc);
    command.arg(&file).stdout(fs::File::create(folder.path().join("output"))?);
    let mut child = Process::start("orthanc", PACKAGES, command, &folder)?;
    let authority = format!("127.0.0.1:{port}");
    let base = Base { authority, path: "/dicom-web".to_owned(), headers: String::new() };
    child.ready(&base, "/system")?;
    let mut groups = vec![Group::tree("server", child.id())];
    groups.extend(database_of(folder.path()));
    Ok(Running {
        base,
        manner: Manner::Dicomweb,
        groups,
        _child: child,
        _database: database,
        folder,
    })
}

/// A database with an owner who may make extensions, as the plugin does.
fn prepare(postgres: &Embedded) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut conn = postgres.owner_options().connect().await?;
        let role = format!("CREATE ROLE orthanc SUPERUSER LOGIN PASSWORD '{PASSWORD}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(role)).execute(&mut conn).await?;
        sqlx::raw_sql("CREATE DATABASE orthanc OWNER orthanc").execute(&mut conn).await?;
        anyhow::Ok(())
    })
}
