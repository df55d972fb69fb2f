//! How much memory this process has used, as the kernel counts it.

/// The largest resident size so far, in bytes (`VmHWM` of proc(5)); 0 where the kernel does not tell.
pub fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kibibytes = line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0);
    kibibytes * 1024
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_running_process_uses_memory() {
        assert!(super::peak_bytes() > 100_000);
    }
}
