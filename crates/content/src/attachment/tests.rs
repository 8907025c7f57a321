use std::cell::RefCell;

use nabe_signing::base64u;
use proptest::prelude::*;

use super::*;

fn secret(byte: u8) -> FileSecret {
    FileSecret::from_random([byte; FileSecret::RANDOM_BYTES])
}

fn url() -> ContentUrl {
    ContentUrl::parse("mxc://example.org/abcd1234").unwrap()
}

fn sealed(bytes: &[u8]) -> (Vec<u8>, EncryptedFile) {
    let (ciphertext, sealed) = seal(Outgoing::new(bytes.to_vec()), secret(7), &AcceptAll).unwrap();
    (ciphertext, sealed.at(url()))
}

/// Refuses what has the word "virus" in it and remembers what it saw.
struct Scanner(RefCell<Vec<Outgoing>>);

impl Scan for Scanner {
    fn scan(&self, file: &Outgoing) -> Result<(), Refused> {
        self.0.borrow_mut().push(file.clone());
        if file.bytes.windows(5).any(|word| word == b"virus") {
            let reason = "it is a virus".to_owned();
            return Err(Refused { reason });
        }
        Ok(())
    }
}

#[test]
fn sealing_is_aes_256_gcm_as_its_specification_has_it() {
    // McGrew and Viega, test case 14: key and nonce of zeros, one block of zeros.
    let (ciphertext, file) = seal(Outgoing::new(vec![0; 16]), secret(0), &AcceptAll).unwrap();
    let hex: String = ciphertext.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    assert_eq!((file.size(), *file.sha256()), (16, sha256(&ciphertext)));
}

#[test]
fn a_changed_ciphertext_is_refused_by_its_hash() {
    let (mut ciphertext, file) = sealed(b"a fish");
    ciphertext[3] ^= 1;
    assert_eq!(open(ciphertext, &file), Err(OpenError::Hash));
}

#[test]
fn a_ciphertext_of_another_size_is_refused_unread() {
    let (ciphertext, file) = sealed(b"a fish");
    let found = |bytes: Vec<u8>| open(bytes, &file).unwrap_err().to_string();
    assert_eq!(found(Vec::new()), "0 bytes where the message promises 22");
    assert_eq!(
        found(ciphertext[..21].to_vec()),
        "21 bytes where the message promises 22"
    );
    assert_eq!(found(vec![0; 4096]), "4096 bytes where the message promises 22");
}

#[test]
fn a_wrong_key_or_nonce_opens_nothing() {
    let (ciphertext, file) = sealed(b"a fish");
    for change in [
        |file: &mut EncryptedFile| file.key[0] ^= 1,
        |file: &mut EncryptedFile| file.nonce[0] ^= 1,
    ] {
        let mut other = file.clone();
        change(&mut other);
        assert_eq!(open(ciphertext.clone(), &other), Err(OpenError::Key));
    }
}

#[test]
fn a_scanner_sees_the_file_before_it_is_sealed_and_may_refuse_it() {
    let scanner = Scanner(RefCell::default());
    let good = Outgoing {
        bytes: b"a fish".to_vec(),
        name: Some(Label::new("fish.txt").unwrap()),
        media_type: Some(MediaType::text_plain()),
    };
    assert!(seal(good.clone(), secret(1), &scanner).is_ok());
    let refused = seal(Outgoing::new(b"a virus".to_vec()), secret(2), &scanner).unwrap_err();
    assert_eq!(refused.to_string(), "the file may not be sent: it is a virus");
    assert_eq!(*scanner.0.borrow(), [good, Outgoing::new(b"a virus".to_vec())]);
}

#[test]
fn a_file_over_the_limit_is_not_even_scanned() {
    let scanner = Scanner(RefCell::default());
    let size = MAX_FILE_BYTES + 1;
    let file = Outgoing::new(vec![0; usize::try_from(size).unwrap()]);
    assert_eq!(
        seal(file, secret(1), &scanner).unwrap_err(),
        SealError::TooLarge { size }
    );
    assert!(scanner.0.borrow().is_empty());
}

#[test]
fn debug_output_shows_no_key() {
    let (_, file) = sealed(b"a fish");
    let shown = format!("{file:?} {:?}", secret(7));
    assert!(
        !shown.contains("7, 7") && !shown.contains(&base64u::encode_url(&[7; 32])),
        "{shown}"
    );
    assert!(shown.contains("example.org"));
}

#[test]
fn the_same_file_under_two_secrets_has_two_ciphertexts() {
    let seal_with = |byte| {
        seal(Outgoing::new(b"a fish".to_vec()), secret(byte), &AcceptAll)
            .unwrap()
            .0
    };
    assert_ne!(seal_with(1), seal_with(2));
}

proptest! {
    #[test]
    fn what_was_sealed_opens(bytes: Vec<u8>, random in any::<[u8; 32]>()) {
        let mut both = [0; FileSecret::RANDOM_BYTES];
        both[..32].copy_from_slice(&random);
        both[32..].copy_from_slice(&random[..12]);
        let (ciphertext, sealed) = seal(Outgoing::new(bytes.clone()), FileSecret::from_random(both), &AcceptAll).unwrap();
        let file = sealed.at(url());
        prop_assert_eq!(ciphertext.len() as u64, file.ciphertext_size());
        prop_assert_eq!(EncryptedFile::parse(&file.to_object()), Ok(file.clone()));
        prop_assert_eq!(open(ciphertext, &file), Ok(bytes));
    }

    #[test]
    fn no_other_bytes_open(other: Vec<u8>) {
        let (ciphertext, file) = sealed(b"a fish");
        prop_assume!(other != ciphertext);
        prop_assert!(open(other, &file).is_err());
    }
}
