//! Networks as namespaces: the user's machine with Wi-Fi and LTE, the otomo's machine, each path behind a NAT of its own, and the
//! servers.
//!
//! ```text
//!  client ── wlan0 192.168.1.0/24 ── NAT ── 10.90.1.0/24 ──┐
//!         └─ wwan0 192.168.2.0/24 ── NAT ── 10.90.2.0/24 ──┼─ servers, 10.90.0.1, 10.90.0.2
//!  peer ──── eth0  192.168.3.0/24 ── NAT ── 10.90.3.0/24 ──┘
//! ```
//!
//! The NATs choose ports at random, another one for each destination, and drop what belongs to no connection silently, as carriers
//! do.

use std::env;
use std::path::Path as FilePath;
use std::process::Command;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

/// The address of the servers.
pub(crate) const SERVER: &str = "10.90.0.1";
/// The address of the TURN server.
pub(crate) const TURN_SERVER: &str = "10.90.0.2";
/// What [`Topology::publish_server`] makes of [`SERVER`].
pub(crate) const PUBLIC: &str = "203.0.113.7";
/// The address of the servers in [`Topology::only_ipv6`].
pub(crate) const SERVER_IPV6: &str = "2001:db8:90::1";

/// A path to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Wifi,
    Lte,
    Peer,
}

impl Path {
    pub(crate) const ALL: [Self; 3] = [Self::Wifi, Self::Lte, Self::Peer];

    /// The third part of its addresses.
    fn number(self) -> u8 {
        match self {
            Self::Wifi => 1,
            Self::Lte => 2,
            Self::Peer => 3,
        }
    }

    /// The machine at its end, and the interface there.
    fn end(self) -> (&'static str, &'static str) {
        match self {
            Self::Wifi => ("client", "wlan0"),
            Self::Lte => ("client", "wwan0"),
            Self::Peer => ("peer", "eth0"),
        }
    }

    fn nat(self) -> String {
        format!("nat{}", self.number())
    }
}

/// The namespaces. Dropping it removes them.
#[derive(Debug)]
pub(crate) struct Topology {
    prefix: String,
    /// How often a path came up.
    ups: AtomicU8,
}

impl Topology {
    /// Makes the namespaces, Wi-Fi up and LTE down.
    /// Fails where namespaces cannot be made: without the right, or without the tools.
    pub(crate) fn new() -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let topology = Self {
            prefix: format!("cp{}-{number}", std::process::id()),
            ups: AtomicU8::new(0),
        };
        topology.make()?;
        Ok(topology)
    }

    /// Whether this machine can do everything that the tests ask of it.
    /// The error says what it cannot do.
    pub(crate) fn probe() -> Result<()> {
        let topology = Self::new()?;
        topology.publish_server()?;
        topology.lose(Path::Peer, 1)?;
        topology.shrink(Path::Peer)?;
        topology.only_ipv6()
    }

    /// Namespaces that another process has made, of which this one is in the servers'.
    pub(crate) fn inherited(prefix: String) -> std::mem::ManuallyDrop<Self> {
        std::mem::ManuallyDrop::new(Self {
            prefix,
            ups: AtomicU8::new(100),
        })
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn make(&self) -> Result<()> {
        for role in ROLES {
            run("ip", &["netns", "add", &self.namespace(role)])?;
            self.ip(role, "link set lo up")?;
        }
        for address in [SERVER, TURN_SERVER] {
            self.ip("servers", &format!("addr add {address}/32 dev lo"))?;
        }
        // Chromium on Linux tells WebRTC of a new address 0.5 to 2 s after the last change of any address. IPv6 would add changes of
        // its own.
        for role in ["client", "peer"] {
            self.set(role, "net.ipv6.conf.all.disable_ipv6=1")?;
            self.set(role, "net.ipv6.conf.default.disable_ipv6=1")?;
        }
        for path in Path::ALL {
            let (n, nat, (machine, interface)) = (path.number(), path.nat(), path.end());
            self.cable(("servers", &format!("to-nat{n}")), (&nat, "out"))?;
            self.cable((machine, interface), (&nat, "in"))?;
            self.ip("servers", &format!("addr add 10.90.{n}.1/24 dev to-nat{n}"))?;
            self.ip("servers", &format!("link set to-nat{n} up"))?;
            self.ip(&nat, &format!("addr add 10.90.{n}.2/24 dev out"))?;
            self.ip(&nat, &format!("addr add 192.168.{n}.1/24 dev in"))?;
            for interface in ["out", "in"] {
                self.ip(&nat, &format!("link set {interface} up"))?;
            }
            self.ip(&nat, &format!("route add default via 10.90.{n}.1"))?;
            self.nft(
                &nat,
                "add table ip t; add chain ip t masq { type nat hook postrouting priority 100; }; \
                 add rule ip t masq oifname out masquerade fully-random; \
                 add chain ip t pass { type filter hook forward priority 0; }; \
                 add rule ip t pass ct state invalid drop",
            )?;
            self.set(&nat, "net.ipv4.ip_forward=1")?;
            self.set(&nat, "net.netfilter.nf_conntrack_tcp_loose=0")?;
        }
        self.up(Path::Wifi)?;
        self.up(Path::Peer)
    }

    fn cable(&self, (one, name): (&str, &str), (other, other_name): (&str, &str)) -> Result<()> {
        let (other, one) = (self.namespace(other), self.namespace(one));
        let line = format!("link add {name} netns {one} type veth peer name {other_name} netns {other}");
        run("ip", &line.split(' ').collect::<Vec<_>>())
    }

    /// The path carries packets. Wi-Fi is preferred, as on phones. The address is another one each time: sockets of the last time stay dead.
    pub(crate) fn up(&self, path: Path) -> Result<()> {
        let (n, (machine, interface)) = (path.number(), path.end());
        self.ip(machine, &format!("link set {interface} up"))?;
        let host = 2 + self.ups.fetch_add(1, Ordering::Relaxed) % 250;
        self.ip(machine, &format!("addr add 192.168.{n}.{host}/24 dev {interface}"))?;
        let metric = 100 * u16::from(n);
        self.ip(
            machine,
            &format!("route add default via 192.168.{n}.1 dev {interface} metric {metric}"),
        )
    }

    /// The interface is gone, and its address and routes with it.
    pub(crate) fn down(&self, path: Path) -> Result<()> {
        let (machine, interface) = path.end();
        self.ip(machine, &format!("link set {interface} down"))?;
        self.ip(machine, &format!("addr flush dev {interface}"))
    }

    /// The interface stays up, and nothing passes.
    pub(crate) fn silence(&self, path: Path) -> Result<()> {
        self.block(path, "counter")
    }

    /// Drops what matches, such as `meta l4proto udp`.
    pub(crate) fn block(&self, path: Path, matches: &str) -> Result<()> {
        self.nft(&path.nat(), &format!("insert rule ip t pass {matches} drop"))
    }

    /// Ends [`silence`](Self::silence) and [`block`](Self::block).
    pub(crate) fn carry(&self, path: Path) -> Result<()> {
        self.nft(
            &path.nat(),
            "flush chain ip t pass; add rule ip t pass ct state invalid drop",
        )
    }

    /// Loses packets at random, in both directions.
    pub(crate) fn lose(&self, path: Path, percent: u32) -> Result<()> {
        self.block(path, &format!("numgen random mod 100 < {percent}"))
    }

    /// The smallest MTU that IPv6 allows.
    pub(crate) fn shrink(&self, path: Path) -> Result<()> {
        self.ip(&path.nat(), "link set out mtu 1280")?;
        self.ip("servers", &format!("link set to-nat{} mtu 1280", path.number()))
    }

    /// The servers are behind a NAT, too: clients reach them by [`PUBLIC`] as well.
    pub(crate) fn publish_server(&self) -> Result<()> {
        self.nft(
            "servers",
            &format!(
                "add table ip t; add chain ip t public {{ type nat hook prerouting priority -100; }}; \
                 add rule ip t public ip daddr {PUBLIC} dnat to {SERVER}"
            ),
        )
    }

    /// The client has IPv6 alone, without a NAT.
    pub(crate) fn only_ipv6(&self) -> Result<()> {
        self.ip("servers", &format!("addr add {SERVER_IPV6}/128 dev lo"))?;
        self.ip("servers", "addr add 2001:db8:1::1/64 dev to-nat1 nodad")?;
        self.ip("servers", "route add 2001:db8:2::/64 via 2001:db8:1::2")?;
        self.ip("nat1", "addr add 2001:db8:1::2/64 dev out nodad")?;
        self.ip("nat1", "addr add 2001:db8:2::1/64 dev in nodad")?;
        self.ip("nat1", "route add 2001:db8::/32 via 2001:db8:1::1")?;
        self.set("nat1", "net.ipv6.conf.all.forwarding=1")?;
        self.down(Path::Wifi)?;
        self.set("client", "net.ipv6.conf.all.disable_ipv6=0")?;
        self.set("client", "net.ipv6.conf.wlan0.disable_ipv6=0")?;
        // An address that is ready a second later is another network to Chromium, and ends the loading of a page.
        self.set("client", "net.ipv6.conf.all.accept_dad=0")?;
        self.set("client", "net.ipv6.conf.wlan0.accept_dad=0")?;
        self.ip("client", "link set wlan0 up")?;
        self.ip("client", "addr add 2001:db8:2::2/64 dev wlan0 nodad")?;
        self.ip("client", "route add default via 2001:db8:2::1")
    }

    /// The NAT forgets every mapping. Linux does when the outer address goes away.
    pub(crate) fn forget_mappings(&self, path: Path) -> Result<()> {
        let (n, nat) = (path.number(), path.nat());
        self.ip(&nat, &format!("addr del 10.90.{n}.2/24 dev out"))?;
        self.ip(&nat, &format!("addr add 10.90.{n}.2/24 dev out"))?;
        self.ip(&nat, &format!("route replace default via 10.90.{n}.1"))
    }

    /// The command that runs `program` on a machine.
    pub(crate) fn on(&self, machine: &str, program: &FilePath) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(machine)]).arg(program);
        command
    }

    /// The command that runs this program on a machine.
    pub(crate) fn itself_on(&self, machine: &str) -> Result<Command> {
        Ok(self.on(machine, &env::current_exe()?))
    }

    fn namespace(&self, role: &str) -> String {
        format!("{}-{role}", self.prefix)
    }

    fn ip(&self, role: &str, line: &str) -> Result<()> {
        let namespace = self.namespace(role);
        let words = ["-n", &namespace].into_iter().chain(line.split(' '));
        run("ip", &words.collect::<Vec<_>>())
    }

    fn nft(&self, role: &str, rules: &str) -> Result<()> {
        self.exec(role, &["nft", rules])
    }

    fn set(&self, role: &str, setting: &str) -> Result<()> {
        self.exec(role, &["sysctl", "-qw", setting])
    }

    fn exec(&self, role: &str, command: &[&str]) -> Result<()> {
        let namespace = self.namespace(role);
        let all = ["netns", "exec", &namespace].into_iter().chain(command.iter().copied());
        run("ip", &all.collect::<Vec<_>>())
    }
}

const ROLES: [&str; 6] = ["client", "peer", "nat1", "nat2", "nat3", "servers"];

impl Drop for Topology {
    fn drop(&mut self) {
        for role in ROLES {
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
