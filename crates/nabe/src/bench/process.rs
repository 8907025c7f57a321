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

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    cpu: Duration,
    bytes_written: Option<u64>,
}

impl Spent {
    pub(super) fn by(pid: u32) -> anyhow::Result<Self> {
        Ok(Self {
            cpu: cpu_time(pid)?,
            bytes_written: bytes_written(pid),
        })
    }

    /// What was used in between.
    pub(super) fn since(&self, before: &Self) -> Self {
        let written = self.bytes_written.zip(before.bytes_written);
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            bytes_written: written.map(|(after, before)| after.saturating_sub(before)),
        }
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            bytes_written: self
                .bytes_written
                .zip(other.bytes_written)
                .map(|(ours, theirs)| ours + theirs),
        }
    }

    /// Processor time in microseconds.
    pub(super) fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6
    }

    /// What was written for each of so many events; `None` where that is not known, or where files are in memory.
    pub(super) fn bytes_written_for(&self, events: u64) -> Option<f64> {
        let bytes = self.bytes_written.filter(|bytes| *bytes > 0)?;
        Some(bytes as f64 / events.max(1) as f64)
    }
}

/// Bytes that a process has had written to the disk: whole pages, each as often as it goes there.
fn bytes_written(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes:"))?;
    line.trim().parse().ok()
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
    fn what_is_written_between_two_looks_is_counted_and_shared_out() {
        let us = std::process::id();
        let before = Spent::by(us).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), vec![7; 1 << 20]).unwrap();
        file.as_file().sync_all().unwrap();
        let spent = Spent::by(us).unwrap().since(&before);
        // In memory nothing is written, and nothing is said then.
        if let Some(each) = spent.bytes_written_for(1024) {
            assert!(each >= 1024.0, "{each}");
        }
        let nothing = before.since(&before);
        assert_eq!((nothing.cpu_us(), nothing.bytes_written_for(1)), (0.0, None));
    }

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
