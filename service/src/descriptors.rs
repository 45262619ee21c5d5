//! Descriptors: the limit of the process is raised at start, and compared with the connections that the settings admit.
//!
//! A process without a free descriptor accepts no probe and cannot reconnect to NATS. The limits of connections therefore leave
//! [`RESERVED`] descriptors for everything else.

use std::io;

/// Descriptors for everything except admitted connections: NATS, the operations port, files, name look-ups, the runtime.
pub const RESERVED: u64 = 256;

const RAISE: &str = "The hard limit can be raised (LimitNOFILE of systemd, --ulimit nofile of containers, ulimit -Hn)";

/// A setting, and the largest number of descriptors that are open because of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescriptorNeed {
    /// The key, such as `limits.connections`.
    pub key: &'static str,
    /// The largest number of descriptors.
    pub descriptors: u64,
}

/// Raises the soft limit of this process to its hard limit, and returns it.
///
/// # Errors
/// The system does not allow it; the limit is then unchanged.
#[cfg(unix)]
pub fn raise_limit() -> io::Result<u64> {
    use nix::sys::resource::{Resource, setrlimit};
    let hard = hard_limit()?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Does nothing: this system has no such limit.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn raise_limit() -> io::Result<u64> {
    hard_limit()
}

/// The hard limit of this process.
///
/// # Errors
/// The system does not report it.
#[cfg(unix)]
pub fn hard_limit() -> io::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(hard)
}

/// No limit.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn hard_limit() -> io::Result<u64> {
    Ok(u64::MAX)
}

/// What is wrong if the settings admit more connections than `limit` allows: the key of the largest number, and a message.
pub fn exceeded(needs: &[DescriptorNeed], limit: u64) -> Option<(&'static str, String)> {
    let Some((at, largest)) = needs.iter().enumerate().max_by_key(|(_, need)| need.descriptors) else {
        let message = format!("{RESERVED} are needed, and this process may have {limit}. {RAISE}");
        return (RESERVED > limit).then_some(("descriptors", message));
    };
    let others = needs.iter().enumerate().filter(|(index, _)| *index != at);
    let others = others.fold(RESERVED, |sum, (_, need)| sum.saturating_add(need.descriptors));
    let sum = others.saturating_add(largest.descriptors);
    (sum > limit).then(|| {
        let message = format!(
            "needs {sum} descriptors, of which {RESERVED} are reserved, and this process may have {limit}. Lower it to {}. {RAISE}",
            limit.saturating_sub(others),
        );
        (largest.key, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_nats_and_probes() {
        let needs = |descriptors| {
            [
                DescriptorNeed {
                    key: "limits.connections",
                    descriptors,
                },
                DescriptorNeed {
                    key: "limits.handshakes",
                    descriptors: 100,
                },
            ]
        };
        assert_eq!(exceeded(&[], RESERVED), None);
        assert_eq!(exceeded(&[], RESERVED - 1).unwrap().0, "descriptors");
        assert_eq!(exceeded(&needs(10_000), 10_000 + 100 + RESERVED), None);
        let (key, message) = exceeded(&needs(10_000), 10_000).unwrap();
        assert_eq!(key, "limits.connections");
        assert!(
            message.contains("needs 10356 descriptors") && message.contains("Lower it to 9644"),
            "{message}"
        );
        assert!(exceeded(&needs(u64::MAX), 1_024).unwrap().1.contains("Lower it to 668"));
    }
}
