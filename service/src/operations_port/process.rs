//! The metrics `process_*`, as the client libraries of Prometheus name them.
//!
//! Source: proc(5); <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use std::fmt::Write as _;
use std::fs;

/// Clock ticks a second in `/proc/self/stat`: 100 on every architecture that Rust's standard library supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// In the text format. What the system does not tell is left out.
pub(super) fn render(start_time: f64) -> String {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let descriptors = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
    let families = [
        (
            "process_cpu_seconds_total",
            "counter",
            "Time on processors, user and system, in seconds",
            cpu_seconds(&stat),
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory, in bytes",
            number(&status, "VmRSS:").map(|size| size * 1024.0),
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory, in bytes",
            number(&status, "VmSize:").map(|size| size * 1024.0),
        ),
        ("process_threads", "gauge", "Threads", number(&status, "Threads:")),
        (
            "process_open_fds",
            "gauge",
            "Open file descriptors",
            descriptors.and_then(|open| u32::try_from(open).ok()).map(f64::from),
        ),
        (
            "process_max_fds",
            "gauge",
            "Limit of open file descriptors",
            number(&limits, "Max open files"),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start of the process, Unix time in seconds",
            Some(start_time),
        ),
    ];
    let mut page = String::new();
    for (name, kind, help, value) in families {
        if let Some(value) = value {
            let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
    }
    page
}

/// The name of the process, in parentheses, may contain spaces. `utime` and `stime` are the 12th and 13th field behind it.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

/// The first number of a line.
fn number(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_proc_are_read() {
        let stat = "7 (a) name) S 1 7 7 0 -1 4194304 26199 0 0 0 766 108 0 0 20 0 4 0 1620459 2";
        assert_eq!(cpu_seconds(stat), Some(8.74));
        assert_eq!(
            number("VmSize:\t  9 kB\nVmRSS:\t  77336 kB\n", "VmRSS:"),
            Some(77_336.0)
        );
        let limits = "Max open files            1024                 524288               files\n";
        assert_eq!(number(limits, "Max open files"), Some(1_024.0));
    }

    #[test]
    fn the_page_has_all_seven_process_metrics_with_help() {
        let page = render(1.5);
        assert_eq!(page.matches("# HELP process_").count(), 7, "{page}");
        assert!(page.contains("\nprocess_start_time_seconds 1.5\n"), "{page}");
    }
}
