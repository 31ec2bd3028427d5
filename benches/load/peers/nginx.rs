//! nginx, with the bytes of instances and of studies as files: what the machine gives when nothing
//! is looked up. A study is one file, and one answer.

use std::{fs, process::Command};

use super::{Folder, Process, Programs, Running, free_port};
use crate::{http::Base, processes::Group, site::Manner};

pub fn start(programs: &Programs, folder: Folder) -> anyhow::Result<Running> {
    let port = free_port()?;
    let root = folder.path().join("files");
    fs::create_dir_all(&root)?;
    fs::write(root.join("ready"), "")?;
    // As root the workers would be somebody who may not enter the folder.
    // SAFETY: geteuid has no preconditions.
    let user = if unsafe { libc::geteuid() } == 0 { "user root;" } else { "" };
    let at = folder.path().display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {at}/{name};\n"))
        .concat();
    let configuration = format!(
        "{user}
daemon off;
worker_processes auto;
pid {at}/pid;
error_log {at}/log;
events {{ worker_connections 1024; }}
http {{
access_log off;
sendfile on;
tcp_nopush on;
keepalive_requests 1000000;
{temporary}
server {{ listen 127.0.0.1:{port}; root {}; }}
}}
",
        root.display()
    );
    let file = folder.path().join("nginx.conf");
    fs::write(&file, configuration)?;
    let mut command = Command::new(&programs.nginx);
    command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
    command.arg("-e").arg(folder.path().join("log"));
    let mut child = Process::start("nginx", "nginx-light", command, &folder)?;
    let base: Base = format!("http://127.0.0.1:{port}").parse()?;
    child.ready(&base, "/ready")?;
    let groups = vec![Group::tree("server", child.id())];
    Ok(Running {
        base,
        manner: Manner::Files(root),
        groups,
        _child: child,
        _database: None,
        folder,
    })
}
