//! Where no call of ours that configuration asks for may go: to this machine, its link, or a cloud's metadata service.
//!
//! Private networks are allowed, for receivers and applications stand there; what a name resolves to is checked at every connection, so
//! that a name cannot be pointed elsewhere after it was configured.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// AWS instance metadata over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// May something be sent to this address?
pub fn allowed(ip: IpAddr, allow_loopback: bool) -> bool {
    let ip = ip.to_canonical();
    if ip.is_loopback() {
        return allow_loopback;
    }
    let special = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets().first() == Some(&0),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6 == METADATA_V6 || embedded_v4_refused(v6),
    };
    !special && !ip.is_unspecified() && !ip.is_multicast()
}

/// NAT64 (`64:ff9b::/96`) leads to the IPv4 address in its last 32 bits.
fn embedded_v4_refused(v6: Ipv6Addr) -> bool {
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            !allowed(IpAddr::from([a, b, c, d]), false)
        }
        _ => false,
    }
}

/// May this URL be configured? The text says what is wrong.
pub fn check(url: &Url, allow_loopback: bool) -> Result<(), &'static str> {
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err("it has no host"),
    };
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        _ => None,
    };
    if here && !allow_loopback {
        return Err("it leads to this machine; set `allow_loopback` if that is meant");
    }
    if literal.is_some_and(|ip| !allowed(ip, allow_loopback)) {
        return Err("it leads to a link-local, multicast or metadata address");
    }
    match url.scheme() {
        "https" => {}
        "http" if here => {}
        _ => return Err("it must begin with https://"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must not hold a user name or password");
    }
    Ok(())
}

/// The system's resolver, without the addresses that are refused.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    /// This machine is allowed.
    pub allow_loopback: bool,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_loopback = self.allow_loopback;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let left: Vec<SocketAddr> = found.into_iter().filter(|a| allowed(a.ip(), allow_loopback)).collect();
            if left.is_empty() {
                return Err(io::Error::other("the name leads to an address that nothing may be sent to").into());
            }
            Ok(Box::new(left.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_refused() {
        for bad in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "64:ff9b::a9fe:a9fe",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(!allowed(bad.parse().unwrap(), false), "{bad}");
        }
        for good in ["10.0.0.7", "192.168.1.1", "93.184.216.34", "2606:2800:220:1::1", "fd12::1", "64:ff9b::5db8:d822"]
        {
            assert!(allowed(good.parse().unwrap(), false), "{good}");
        }
        assert!(allowed("::1".parse().unwrap(), true) && allowed("::ffff:127.0.0.1".parse().unwrap(), true));
        assert!(!allowed("169.254.169.254".parse().unwrap(), true));
    }

    #[test]
    fn urls_that_are_refused() {
        let check = |url: &str, loopback| check(&url.parse().unwrap(), loopback);
        for bad in [
            "http://hooks.example.com/",
            "ftp://hooks.example.com/",
            "https://user:pass@hooks.example.com/",
            "https://127.0.0.1/",
            "https://localhost/",
            "https://[::1]/",
            "https://169.254.169.254/latest",
            "https://2852039166/",
            "https://0x7f.1/",
            "http://127.0.0.1/",
            "data:text/plain,hello",
        ] {
            assert!(check(bad, false).is_err(), "{bad}");
        }
        assert_eq!(check("https://hooks.example.com/tidegate", false), Ok(()));
        assert_eq!(check("http://127.0.0.1:8080/", true), Ok(()));
        assert_eq!(check("http://localhost:8080/", true), Ok(()));
        assert!(check("http://10.0.0.1/", true).is_err());
        assert!(check("http://169.254.169.254/", true).is_err());
    }

    #[tokio::test]
    async fn a_name_that_leads_here_is_refused_when_it_is_looked_up() {
        let look_up = |allow_loopback| Guard { allow_loopback }.resolve("localhost".parse().unwrap());
        assert!(look_up(false).await.is_err());
        assert!(look_up(true).await.is_ok());
    }
}
