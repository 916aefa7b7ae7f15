//! How the C library's allocator gives memory back.
//!
//! Payloads are allocated by the thread that reads them and freed by the one that writes them. glibc gives each
//! thread an arena of its own, and raises the size from which a block is mapped by itself to that of the largest
//! one freed so far: so the reader's arena grows to the greatest sum there ever was and never shrinks, because
//! something small always lies at its end. Measured over a first synchronization of 80,000 files: 200 MB held by an
//! arena with 60 KB in use.

/// Arenas of the process.
const ARENAS_MAX: i32 = 2;
/// Blocks from here on are mapped by themselves, and given back when they are freed. Setting it keeps it there.
const MAPPED_BYTES_MIN: i32 = 128 << 10;
/// So much at the end of an arena is given back.
const TRIM_BYTES: i32 = 1 << 20;

/// Limits what the allocator keeps for itself. To be called before there are threads: an arena that is there stays.
/// Does nothing with another C library than glibc.
pub fn limit_heap() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, ARENAS_MAX),
        (libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN),
        (libc::M_TRIM_THRESHOLD, TRIM_BYTES),
    ] {
        // SAFETY: takes two numbers and may be called at any time; a value it does not like it ignores.
        #[allow(unsafe_code)]
        let _accepted = unsafe { libc::mallopt(parameter, value) };
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = (ARENAS_MAX, MAPPED_BYTES_MIN, TRIM_BYTES);
}

/// Gives back to the system what the allocator holds and nobody uses, also between blocks in use. Some milliseconds, with
/// allocation waiting: for the end of something large, or now and then while it goes on. Does nothing with another C library than glibc.
pub fn give_back_heap() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: takes a number and may be called at any time from any thread.
        #[allow(unsafe_code)]
        let _gave_some = unsafe { libc::malloc_trim(0) };
    }
}
