//! Which process this is, for its leases, and whether another one of this host is gone.

use std::path::Path;
use std::sync::Arc;

use backy_core::records::lease::Holder;
use backy_engine::repository::leases::Host;
use rustix::io::Errno;
use rustix::process::Pid;

/// Returns this process, and what tells which others are gone.
pub fn this_host() -> Host {
    let holder = this_process();
    let own = holder.clone();
    Host { holder, is_gone: Arc::new(move |other| is_gone(&own, other, Path::new("/proc"))) }
}

fn this_process() -> Holder {
    let process = std::process::id();
    let instance = match (place(), began(Path::new("/proc"), process)) {
        (Some(place), Some(began)) => format!("{place}/{began}"),
        _ => String::new(),
    };
    Holder { host: host_name(), process, instance }
}

/// The host's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Names the boot and the namespace in which process ids mean something.
fn place() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{}/{}", boot.trim(), namespace.display()))
}

/// When a process began, in ticks since the boot: no later process of the same id began at the same tick.
fn began(proc: &Path, process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(proc.join(process.to_string()).join("stat")).ok()?;
    // The second field is the name in parentheses, which may hold anything; the 22nd is the start.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// Says whether a process of the same boot and namespace is gone. Of others nothing is known.
fn is_gone(own: &Holder, other: &Holder, proc: &Path) -> bool {
    let (Some((own_place, _)), Some((place, other_began))) =
        (own.instance.rsplit_once('/'), other.instance.rsplit_once('/'))
    else {
        return false;
    };
    if own.host != other.host || own_place != place {
        return false;
    }
    let Some(process) = i32::try_from(other.process).ok().and_then(Pid::from_raw) else { return false };
    match rustix::process::test_kill_process(process) {
        Err(Errno::SRCH) => true,
        // It is there, whoever may see it; or a later process of the same id.
        _ => began(proc, other.process).is_some_and(|began| began.to_string() != other_began),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_that_are_surely_gone_are_gone() {
        let host = this_host();
        let own = &host.holder;
        assert!(!own.instance.is_empty());
        assert!(!(host.is_gone)(own));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let proc = Path::new("/proc");
        let place = own.instance.rsplit_once('/').unwrap().0;
        let began = began(proc, child.id()).unwrap();
        let running = Holder { process: child.id(), instance: format!("{place}/{began}"), ..own.clone() };
        assert!(!(host.is_gone)(&running));
        // The same id, but an earlier process.
        let reused = Holder { instance: format!("{place}/{}", began - 1), ..running.clone() };
        assert!((host.is_gone)(&reused));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!((host.is_gone)(&running));
        for unknown in [
            Holder { host: "another".to_owned(), ..running.clone() },
            Holder { instance: String::new(), ..running.clone() },
            Holder { instance: format!("another-boot/pid:[1]/{began}"), ..running.clone() },
        ] {
            assert!(!(host.is_gone)(&unknown), "{unknown:?}");
        }
        // Where /proc hides processes, one that lives is not taken for gone.
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let hidden = Holder { process: other.id(), instance: format!("{place}/1"), ..own.clone() };
        assert!(!is_gone(own, &hidden, Path::new("/nowhere")));
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
