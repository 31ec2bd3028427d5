//! Settings of the private Postgres, given on its command line so that a newer server program
//! changes them without touching the cluster.

use std::{ffi::OsString, fs, path::Path};

use super::{MAX_CONNECTIONS, PORT};

const MIB: u64 = 1 << 20;

/// Arguments of `postgres`: the cluster's folder, the socket's folder, and settings that follow the
/// machine's memory.
pub fn arguments(data: &Path, sockets: &Path) -> Vec<OsString> {
    let mut arguments = vec![OsString::from("-D"), data.as_os_str().to_owned()];
    let mut set = |name: &str, value: &std::ffi::OsStr| {
        let mut setting = OsString::from(format!("{name}="));
        setting.push(value);
        arguments.extend([OsString::from("-c"), setting]);
    };
    set("unix_socket_directories", sockets.as_os_str());
    for (name, value) in FIXED {
        set(name, value.as_ref());
    }
    let memory = memory();
    // Taken as it is used. What is not found there is asked of the kernel, page by page: several times
    // as dear, and a page of results is hundreds of them.
    let shared = (memory / 8).clamp(128 * MIB, 4096 * MIB) / MIB;
    for (name, value) in [
        ("port", PORT.to_string()),
        ("max_connections", MAX_CONNECTIONS.to_string()),
        ("shared_buffers", format!("{shared}MB")),
        ("effective_cache_size", format!("{}MB", (memory / 2).max(256 * MIB) / MIB)),
    ] {
        set(name, value.as_ref());
    }
    // Plain fsync leaves data in the drive's cache there.
    if cfg!(target_os = "macos") {
        set("wal_sync_method", "fsync_writethrough".as_ref());
    }
    arguments
}

const FIXED: [(&str, &str); 26] = [
    // Reach: the socket, and nobody but its owner (and root).
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("password_encryption", "scram-sha-256"),
    // Durability, said aloud so that no edit of postgresql.conf turns it off.
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    // Stores come in bursts: fewer, spread checkpoints; at most this much log to replay.
    ("max_wal_size", "2GB"),
    ("checkpoint_timeout", "15min"),
    ("wal_buffers", "16MB"),
    // Statements are many and short: compiling them costs more than it saves, and one search that
    // takes all cores is another tenant's latency.
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("random_page_cost", "1.1"),
    ("work_mem", "8MB"),
    ("maintenance_work_mem", "128MB"),
    // A client that went away must not leave a transaction open that holds back vacuum.
    ("idle_in_transaction_session_timeout", "5min"),
    // Logs go to our file. Terse and without statements and parameters: patients' data is in those.
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", "%m [%p] "),
    ("log_error_verbosity", "terse"),
    ("log_min_error_statement", "panic"),
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
    ("log_statement", "none"),
    ("log_min_duration_statement", "-1"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
];

/// Bytes of memory that this process may use: the machine's, or the container's if that is less.
fn memory() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let (pages, size) =
        unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    let machine = u64::try_from(pages).unwrap_or(0) * u64::try_from(size).unwrap_or(0);
    let container = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    machine.min(container.unwrap_or(u64::MAX))
}
