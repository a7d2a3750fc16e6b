//! What the janitor does at a container's end.

use super::{facts, forwarding, is_ours, lock};
use crate::Result;
use crate::error::accept;
use crate::explain::{change, heading, step};
use crate::netlink::{Link, Request, Socket};
use nix::errno::Errno;

/// Deletes the veth of this group, and the bridge unless another container uses it. Under the lock no
/// container joins or leaves meanwhile. `name` is the number of the group, and the name of the bridge.
pub(super) fn remove_links(name: &str) -> Result<()> {
    let Some((group, bridge)) = name.split_once(' ') else {
        return Ok(());
    };
    let Ok(group) = group.parse() else {
        return Ok(());
    };
    heading("clean-up");
    let lock = lock::take();
    let socket = Socket::open()?;
    let links = socket.links()?;
    let find = |kind, wanted: &dyn Fn(&Link) -> bool| {
        let mut links = links.iter();
        links.find(|link| link.kind == kind && wanted(link))
    };
    let veth = find("veth", &|link| link.group == group);
    let bridge = find("bridge", &|link| link.name == bridge && is_ours(link));
    let is_other_port =
        |port: &Link, bridge: &Link| port.master == bridge.index && Some(port) != veth;
    let forwards = |bridge: &&Link| {
        let mut links = links.iter();
        links.any(|port| is_other_port(port, bridge) && forwarding::is_used_by(port))
    };
    if let Some(bridge) = bridge.filter(|bridge| !forwards(bridge)) {
        // Even without the lock: any user can keep it.
        forwarding::restore(&socket, bridge)?;
    }
    let _lock = lock?;
    let is_unused = |bridge: &&Link| !links.iter().any(|port| is_other_port(port, bridge));
    // The kernel itself removes a veth whose peer's namespace has gone.
    let delete = |request: &Request| accept(Errno::ENODEV, socket.request(request));
    if let Some(bridge) = bridge.filter(is_unused) {
        let shell = format_args!("ip link del {}", bridge.name);
        let does = "the last container removes the bridge, and the pair";
        // Both in one request: one RCU grace period (17 to 30 ms) instead of two.
        let remove = || {
            if bridge.group != group {
                socket.request(&Request::set_group(bridge, group))?;
            }
            delete(&Request::delete_group(group))
        };
        step(shell, does, || change(facts, remove))
    } else if let Some(veth) = veth {
        let shell = format_args!("ip link del {}", veth.name);
        let does = "removes the pair; others use the bridge";
        step(shell, does, || {
            change(facts, || delete(&Request::delete(veth)))
        })
    } else {
        Ok(())
    }
}
