//! What the allocator keeps of the memory that was given back.
//!
//! glibc takes each piece of 128 KiB and more from the kernel anew and gives it back at once, at a page
//! fault for every 4 KiB: a tenth of what a Store of many images costs the processor, whose bodies come
//! in such pieces. Holds: what is kept beyond use is bounded, for each of the allocator's arenas.

/// Largest piece that is kept for the next one, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: libc::c_int = 4 << 20;

/// Memory at the end of an arena that is kept, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const IDLE: libc::c_int = 32 << 20;

/// Keeps some. To be called while there is one thread. Another allocator than glibc's has its own ways.
pub(super) fn keep_some() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (what, bytes) in [(libc::M_MMAP_THRESHOLD, KEPT), (libc::M_TRIM_THRESHOLD, IDLE)] {
        // SAFETY: sets a number of the allocator, which locks itself, and touches no memory of ours.
        let is_set = unsafe { libc::mallopt(what, bytes) };
        debug_assert_eq!(is_set, 1, "glibc takes up to 32 MiB");
    }
}
