//! Looking for what was said in what a server has on disk.

use std::{fs, path::Path};

use nabe_signing::base64u;

/// All files below a folder, as bytes.
pub(super) struct OnDisk {
    files: Vec<Vec<u8>>,
}

impl OnDisk {
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(fs::read(path)?);
                }
            }
        }
        Ok(Self { files })
    }

    pub(super) fn bytes(&self) -> usize {
        self.files.iter().map(Vec::len).sum()
    }

    /// Whether a text is in any file: as it is, or within something that was put into base64.
    pub(super) fn holds(&self, text: &str) -> bool {
        let forms = forms(text);
        let holds = |file: &Vec<u8>| {
            forms
                .iter()
                .any(|form| file.windows(form.len()).any(|window| window == form.as_slice()))
        };
        self.files.iter().any(holds)
    }
}

/// A text as it is, and what base64 makes of it whatever stands before and after it: three ways, since three bytes become four
/// characters.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![text.as_bytes().to_vec()];
    for (before, shared) in [(0, 0), (1, 2), (2, 3)] {
        let mut bytes = vec![0; before];
        bytes.extend(text.as_bytes());
        // The last character holds bits of what follows, unless the text ends with it.
        let whole = bytes.len() * 8 / 6;
        let encoded = base64u::encode(&bytes).into_bytes();
        forms.extend(encoded.get(shared..whole).map(<[u8]>::to_vec));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_raw_and_in_base64_wherever_it_begins() {
        for before in ["", "x", "xy", "xyz"] {
            for after in ["", "u", "uv", "uvw"] {
                let message = format!("{before}between us{after}");
                for stored in [message.clone(), base64u::encode(message.as_bytes())] {
                    let disk = OnDisk {
                        files: vec![b"nothing".to_vec(), format!("{{\"c\":\"{stored}\"}}").into_bytes()],
                    };
                    assert!(disk.holds("between us"), "{stored}");
                    assert!(!disk.holds("between them"), "{stored}");
                }
            }
        }
    }

    #[test]
    fn files_in_folders_in_folders_are_searched() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), "hidden well").unwrap();
        let disk = OnDisk::read(folder.path()).unwrap();
        assert!(disk.holds("hidden") && !disk.holds("missing"));
        assert_eq!(disk.bytes(), 11);
    }
}
