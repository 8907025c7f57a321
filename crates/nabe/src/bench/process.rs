//! What Linux says about a process and the machine.

use std::{fs, time::Duration};

use anyhow::Context as _;

/// User and system time a process has used so far, threads that ended included; in steps of 10 ms.
pub(super) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name in parentheses may contain anything; the fields after it are plain.
    let fields: Vec<&str> = text
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_ascii_whitespace().collect())
        .unwrap_or_default();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let (user, system) = ticks(11)
        .zip(ticks(12))
        .with_context(|| format!("{path} has no times"))?;
    // The kernel's interface counts in hundredths of a second on every architecture (USER_HZ).
    Ok(Duration::from_millis((user + system) * 10))
}

/// Resident memory of a process, bytes.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    memory(pid, "VmRSS:")
}

/// The most it ever was.
pub(super) fn peak_bytes(pid: u32) -> Option<u64> {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, which: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(which))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

/// The load average of the last minute.
pub(super) fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg")
        .ok()?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_cpu_time_can_be_read_and_grows() {
        let before = cpu_time(std::process::id()).unwrap();
        let mut hash = [0; 32];
        while cpu_time(std::process::id()).unwrap() <= before {
            (0..1000).for_each(|_| hash = nabe_signing::sha256(&hash));
        }
        let resident = resident_bytes(std::process::id()).unwrap();
        assert!(resident > 1 << 20 && peak_bytes(std::process::id()).unwrap() >= resident);
        assert!(load_average().is_some());
    }
}
