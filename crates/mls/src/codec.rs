//! The little of MLS's presentation language (RFC 9420, 2.1) that we read ourselves: where a check needs the exact bytes of
//! a part, or its place in a whole that is too large to decode for every commit.

/// Reads a byte string from the front. Every method fails with [`Malformed`] when the bytes run out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// The bytes are not what the structure prescribes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed;

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// `opaque x<V>`: a length in one, two or four bytes, the shortest that fits, and as many bytes.
    pub(crate) fn opaque(&mut self) -> Result<&'a [u8], Malformed> {
        let first = *self.rest.first().ok_or(Malformed)?;
        let len = match first >> 6 {
            0 => u32::from(self.u8()?),
            1 => {
                let len = u32::from(self.u16()? & 0x3fff);
                if len < 1 << 6 {
                    return Err(Malformed);
                }
                len
            }
            2 => {
                let len = self.u32()? & 0x3fff_ffff;
                if len < 1 << 14 {
                    return Err(Malformed);
                }
                len
            }
            _ => return Err(Malformed),
        };
        self.take(usize::try_from(len).map_err(|_| Malformed)?)
    }
}

/// Appends `opaque x<V>`. `bytes` must be shorter than 2^30, which everything we encode is by its own limits.
pub(crate) fn write_opaque(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("what we encode is bounded far below 2^30");
    match len {
        0..0x40 => out.push(len.to_be_bytes()[3]),
        0x40..0x4000 => out.extend_from_slice(&(len | 0x4000).to_be_bytes()[2..]),
        _ => out.extend_from_slice(&(len | 0x8000_0000).to_be_bytes()),
    }
    out.extend_from_slice(bytes);
}

/// Appends `opaque x<V>` as `write` appends its content, which need not be in a place of its own first.
pub(crate) fn write_opaque_by(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    const LONGEST: usize = 4;
    let start = out.len();
    out.extend_from_slice(&[0; LONGEST]);
    write(out);
    let len = u32::try_from(out.len() - start - LONGEST).expect("what we encode is bounded far below 2^30");
    let encoded = match len {
        0..0x40 => len << 24,
        0x40..0x4000 => (len | 0x4000) << 16,
        _ => len | 0x8000_0000,
    };
    let width = match len {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        _ => LONGEST,
    };
    out[start..start + width].copy_from_slice(&encoded.to_be_bytes()[..width]);
    out.drain(start + width..start + LONGEST);
}

/// What MLS signs under a label (RFC 9420, 5.1.2): `struct { opaque label<V> = "MLS 1.0 " + Label; opaque content<V>; }`.
pub(crate) fn labeled(label: &str, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + label.len() + 16);
    write_opaque(&mut out, format!("MLS 1.0 {label}").as_bytes());
    write_opaque(&mut out, content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_its_place_is_written_the_same() {
        for len in [0, 1, 0x3f, 0x40, 0x3fff, 0x4000, 0x1_0000] {
            let content = vec![7; len];
            let (mut whole, mut in_place) = (vec![1], vec![1]);
            write_opaque(&mut whole, &content);
            write_opaque_by(&mut in_place, |out| out.extend_from_slice(&content));
            assert_eq!(in_place, whole, "{len} bytes");
        }
    }

    #[test]
    fn opaque_is_read_as_written_at_every_width() {
        for len in [0, 1, 63, 64, 16_383, 16_384, 70_000] {
            let bytes = vec![7; len];
            let mut out = Vec::new();
            write_opaque(&mut out, &bytes);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.opaque(), Ok(&bytes[..]), "{len}");
            assert!(reader.is_empty());
            let mut short = Reader::new(&out[..out.len() - 1]);
            assert_eq!(short.opaque(), Err(Malformed), "{len}, truncated");
        }
    }

    #[test]
    fn a_length_has_one_encoding() {
        assert_eq!(Reader::new(&[0x40, 0x01, 0xff]).opaque(), Err(Malformed));
        assert_eq!(Reader::new(&[0x80, 0, 0, 0x01, 0xff]).opaque(), Err(Malformed));
        assert_eq!(Reader::new(&[0xc0, 0, 0, 0, 0, 0, 0, 1, 0xff]).opaque(), Err(Malformed));
        assert_eq!(Reader::new(&[]).opaque(), Err(Malformed));
    }
}
