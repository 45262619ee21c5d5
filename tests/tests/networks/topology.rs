//! A caller's networks as namespaces: a machine with Wi-Fi and LTE, each behind a NAT of its own, and the servers.
//!
//! ```text
//!  client ── wifi 192.168.1.0/24 ── NAT ── 10.90.1.0/24 ──┐
//!         └─ lte  192.168.2.0/24 ── NAT ── 10.90.2.0/24 ──┴─ servers, 10.90.0.1
//! ```
//!
//! The NATs choose ports at random, and drop what belongs to no connection silently, as carriers do.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The address of the servers.
pub(crate) const SERVER: &str = "10.90.0.1";

/// A path from the client to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Wifi,
    Lte,
}

impl Path {
    const BOTH: [Self; 2] = [Self::Wifi, Self::Lte];

    /// The third part of its addresses.
    fn number(self) -> u8 {
        match self {
            Self::Wifi => 1,
            Self::Lte => 2,
        }
    }

    /// The client's interface.
    fn interface(self) -> &'static str {
        match self {
            Self::Wifi => "wlan0",
            Self::Lte => "wwan0",
        }
    }
}

/// The namespaces. Dropping it removes them.
#[derive(Debug)]
pub(crate) struct Topology {
    prefix: String,
}

impl Topology {
    /// Makes the namespaces, Wi-Fi up and LTE down.
    ///
    /// # Errors
    /// Where namespaces cannot be made: without the right, or without the tools.
    pub(crate) fn new() -> Result<Self> {
        let topology = Self {
            prefix: format!("cp{}", std::process::id()),
        };
        topology.make()?;
        Ok(topology)
    }

    /// Namespaces that another process has made, of which this one is in the servers'.
    pub(crate) fn inherited(prefix: String) -> std::mem::ManuallyDrop<Self> {
        std::mem::ManuallyDrop::new(Self { prefix })
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn make(&self) -> Result<()> {
        for role in ["servers", "client", "nat1", "nat2"] {
            run("ip", &["netns", "add", &self.namespace(role)])?;
            self.ip(role, "link set lo up")?;
        }
        self.ip("servers", &format!("addr add {SERVER}/32 dev lo"))?;
        for path in Path::BOTH {
            let (n, interface) = (path.number(), path.interface());
            let nat = format!("nat{n}");
            self.cable(("servers", &format!("to-nat{n}")), (&nat, "out"))?;
            self.cable(("client", interface), (&nat, "in"))?;
            self.ip("servers", &format!("addr add 10.90.{n}.1/24 dev to-nat{n}"))?;
            self.ip("servers", &format!("link set to-nat{n} up"))?;
            self.ip(&nat, &format!("addr add 10.90.{n}.2/24 dev out"))?;
            self.ip(&nat, &format!("addr add 192.168.{n}.1/24 dev in"))?;
            for interface in ["out", "in"] {
                self.ip(&nat, &format!("link set {interface} up"))?;
            }
            self.ip(&nat, &format!("route add default via 10.90.{n}.1"))?;
            self.ip("client", &format!("addr add 192.168.{n}.2/24 dev {interface}"))?;
            self.exec(
                &nat,
                "nft",
                &[
                    "add table ip t; add chain ip t masq { type nat hook postrouting priority 100; }; \
                   add rule ip t masq oifname out masquerade fully-random; \
                   add chain ip t pass { type filter hook forward priority 0; }; \
                   add rule ip t pass ct state invalid drop",
                ],
            )?;
            for setting in ["net.ipv4.ip_forward=1", "net.netfilter.nf_conntrack_tcp_loose=0"] {
                self.exec(&nat, "sysctl", &["-qw", setting])?;
            }
        }
        self.up(Path::Wifi)
    }

    fn cable(&self, (one, name): (&str, &str), (other, other_name): (&str, &str)) -> Result<()> {
        let (other, one) = (self.namespace(other), self.namespace(one));
        let line = format!("link add {name} netns {one} type veth peer name {other_name} netns {other}");
        run("ip", &line.split(' ').collect::<Vec<_>>())
    }

    /// The path carries packets. Wi-Fi is preferred, as on phones.
    pub(crate) fn up(&self, path: Path) -> Result<()> {
        let (n, interface) = (path.number(), path.interface());
        self.ip("client", &format!("link set {interface} up"))?;
        let metric = 100 * u16::from(n);
        self.ip(
            "client",
            &format!("route add default via 192.168.{n}.1 dev {interface} metric {metric}"),
        )
    }

    /// The interface is gone, and its routes with it.
    pub(crate) fn down(&self, path: Path) -> Result<()> {
        self.ip("client", &format!("link set {} down", path.interface()))
    }

    /// The interface stays up, and nothing passes.
    pub(crate) fn silence(&self, path: Path) -> Result<()> {
        self.exec(
            &format!("nat{}", path.number()),
            "nft",
            &["insert rule ip t pass counter drop"],
        )
    }

    /// Ends [`silence`](Self::silence).
    pub(crate) fn carry(&self, path: Path) -> Result<()> {
        let rules = "flush chain ip t pass; add rule ip t pass ct state invalid drop";
        self.exec(&format!("nat{}", path.number()), "nft", &[rules])
    }

    /// The NAT forgets every mapping. Linux does when the outer address goes away.
    pub(crate) fn forget_mappings(&self, path: Path) -> Result<()> {
        let n = path.number();
        let nat = format!("nat{n}");
        self.ip(&nat, &format!("addr del 10.90.{n}.2/24 dev out"))?;
        self.ip(&nat, &format!("addr add 10.90.{n}.2/24 dev out"))?;
        self.ip(&nat, &format!("route replace default via 10.90.{n}.1"))
    }

    /// The command that runs `program` on the client's machine.
    pub(crate) fn on_client(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace("client")]).arg(program);
        command
    }

    /// The command that runs `program` on the servers' machine.
    pub(crate) fn on_servers(&self, program: PathBuf) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace("servers")]).arg(program);
        command
    }

    fn namespace(&self, role: &str) -> String {
        format!("{}-{role}", self.prefix)
    }

    fn ip(&self, role: &str, line: &str) -> Result<()> {
        let namespace = self.namespace(role);
        let words = ["-n", &namespace].into_iter().chain(line.split(' '));
        run("ip", &words.collect::<Vec<_>>())
    }

    fn exec(&self, role: &str, program: &str, arguments: &[&str]) -> Result<()> {
        let namespace = self.namespace(role);
        let all = ["netns", "exec", &namespace, program]
            .into_iter()
            .chain(arguments.iter().copied());
        run("ip", &all.collect::<Vec<_>>())
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        for role in ["client", "nat1", "nat2", "servers"] {
            let _ = run("ip", &["netns", "del", &self.namespace(role)]);
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("{program} (Debian: iproute2, nftables, procps)"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        complaint.trim()
    );
    Ok(())
}
