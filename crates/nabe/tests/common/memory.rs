//! What is in the memory of a process.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    process::Command,
};

use super::Serving;

/// Shows `look` the memory of a server that is held still meanwhile: everything that it can write to, freed memory included. The rest is
/// its program and libraries, mapped from files. How many bytes that was.
pub(crate) fn read(process: &Serving, mut look: impl FnMut(&[u8])) -> std::io::Result<u64> {
    let id = process.id();
    let maps = fs::read_to_string(format!("/proc/{id}/maps"))?;
    let mut memory = fs::File::open(format!("/proc/{id}/mem"))?;
    let signal = |name: &str| {
        let told = Command::new("kill").args([name, &id.to_string()]).status().unwrap();
        assert!(told.success());
    };
    let mut bytes = 0;
    signal("-STOP");
    let done = (|| {
        for line in maps.lines() {
            let mut fields = line.split_ascii_whitespace();
            let (Some(range), Some(rights)) = (fields.next(), fields.next()) else {
                continue;
            };
            if !rights.starts_with("rw") {
                continue;
            }
            let (from, to) = range.split_once('-').unwrap();
            let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
            let mut at = from;
            while at < to {
                let end = to.min(at + CHUNK);
                let mut chunk = vec![0; usize::try_from(end - at).unwrap()];
                memory.seek(SeekFrom::Start(at))?;
                // A region that went away between the two readings.
                match memory.read_exact(&mut chunk) {
                    Ok(()) => {}
                    Err(_) if bytes > 0 => break,
                    Err(error) => return Err(error),
                }
                bytes += end - at;
                look(&chunk);
                if end == to {
                    break;
                }
                at = end - OVERLAP;
            }
        }
        Ok(())
    })();
    signal("-CONT");
    done.map(|()| bytes)
}

/// Regions are read in pieces of so many bytes, …
const CHUNK: u64 = 4 << 20;
/// … each of which repeats the end of the one before: nothing that is looked for is longer.
const OVERLAP: u64 = 256;
