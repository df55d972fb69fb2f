//! How much memory this process has used and how much there is, as the kernel counts it.

/// The largest resident size so far, in bytes (`VmHWM` of proc(5)); 0 where the kernel does not tell.
pub fn peak_bytes() -> u64 {
    field("/proc/self/status", "VmHWM:")
}

/// What can be used without swapping, in bytes (`MemAvailable` of proc(5)); 0 where the kernel does not tell.
pub fn available_bytes() -> u64 {
    field("/proc/meminfo", "MemAvailable:")
}

/// A line `<name> <number> kB`, in bytes.
fn field(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kibibytes = line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0);
    kibibytes * 1024
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_running_process_uses_memory() {
        assert!(super::peak_bytes() > 100_000);
        assert!(super::available_bytes() > 100_000);
    }
}
