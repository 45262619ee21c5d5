//! What a process uses, from `/proc`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// CPU time of all living threads, in nanoseconds, from the scheduler: clock ticks are too coarse for an idle service.
pub fn cpu_nanos(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the two reads.
        if let Ok(stat) = fs::read_to_string(thread?.path().join("schedstat")) {
            let spent = stat.split_whitespace().next().context("an empty schedstat")?;
            sum += spent.parse::<u64>()?;
        }
    }
    Ok(sum)
}

/// The machine in a few words: cores, processor, kernel.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| fs::read_to_string(Path::new(path)).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |line| line.trim_start_matches(['\t', ' ', ':']));
    format!(
        "{cores} cores, {model}, Linux {}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let pid = std::process::id();
        assert!(cpu_nanos(pid).unwrap() > 0);
        assert!(machine().contains("cores"));
    }
}
