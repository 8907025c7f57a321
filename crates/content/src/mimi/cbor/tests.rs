use proptest::prelude::*;

use super::*;

fn value(bytes: &[u8]) -> Result<CborValue, Rule> {
    CborValue::parse(bytes).map_err(|error| error.rule)
}

#[test]
fn a_value_is_what_it_was_made_of() {
    assert_eq!(CborValue::unsigned(u64::MAX).as_unsigned(), Some(u64::MAX));
    assert_eq!(CborValue::text("fish").as_text(), Some("fish"));
    assert_eq!(CborValue::bytes(b"fish").as_bytes(), Some(&b"fish"[..]));
    assert_eq!(CborValue::text("fish").as_unsigned(), None);
    assert_eq!(CborValue::text("fish").kind(), Kind::Text);
    assert_eq!(format!("{:?}", CborValue::unsigned(24)), "CborValue(1818)");
    for (bytes, kind) in [
        (&[0x20][..], Kind::Negative),
        (&[0x80], Kind::Array),
        (&[0xa0], Kind::Map),
        (&[0xc1, 0], Kind::Tag),
        (&[0xf4], Kind::Bool),
        (&[0xf6], Kind::Null),
        (&[0xf7], Kind::Simple),
        (&[0xf9, 0x3c, 0], Kind::Float),
    ] {
        assert_eq!(value(bytes).unwrap().kind(), kind);
    }
}

#[test]
fn only_the_shortest_numbers_are_read() {
    for (number, bytes) in [
        (0, &[0x00][..]),
        (23, &[0x17]),
        (24, &[0x18, 24]),
        (255, &[0x18, 255]),
        (256, &[0x19, 1, 0]),
        (65_535, &[0x19, 255, 255]),
        (65_536, &[0x1a, 0, 1, 0, 0]),
        (4_294_967_295, &[0x1a, 255, 255, 255, 255]),
        (4_294_967_296, &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0]),
    ] {
        assert_eq!(CborValue::unsigned(number).as_cbor(), bytes);
        assert_eq!(value(bytes), Ok(CborValue::unsigned(number)));
    }
    for bytes in [
        &[0x18, 23][..],
        &[0x19, 0, 255],
        &[0x1a, 0, 0, 255, 255],
        &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255],
        &[0x38, 0],
        &[0x58, 1, 0],
        &[0x78, 1, 0x61],
        &[0x98, 0],
        &[0xb8, 0],
        &[0xd8, 1, 0],
    ] {
        assert_eq!(value(bytes), Err(Rule::NotShortest), "{bytes:x?}");
    }
}

#[test]
fn only_the_shortest_floats_and_one_nan_are_read() {
    let single = |number: f32| [&[0xfa][..], &number.to_bits().to_be_bytes()].concat();
    let double = |number: f64| [&[0xfb][..], &number.to_bits().to_be_bytes()].concat();
    for bytes in [
        vec![0xf9, 0x3e, 0x00], // 1.5
        vec![0xf9, 0x7c, 0x00], // infinity
        vec![0xf9, 0x7e, 0x00], // the NaN
        vec![0xf9, 0x80, 0x00], // -0.0
        single(65_505.0),
        single(65_520.0),
        single(100_000.0),
        single(2_f32.powi(-25)),
        single(1.0 + 2_f32.powi(-11)),
        single(2_f32.powi(-15) + 2_f32.powi(-25)),
        double(0.1),
        double(1e300),
        double(2_f64.powi(-150)),
    ] {
        assert!(value(&bytes).is_ok(), "{bytes:x?}");
    }
    for bytes in [
        single(0.0),
        single(-0.0),
        single(f32::INFINITY),
        single(65_504.0),
        single(2_f32.powi(-24)),
        single(1.0 + 2_f32.powi(-10)),
        single(2_f32.powi(-15) + 2_f32.powi(-24)),
        double(1.5),
        double(65_505.0),
        double(2_f64.powi(-149)),
        double(f64::NEG_INFINITY),
    ] {
        assert_eq!(value(&bytes), Err(Rule::FloatNotShortest), "{bytes:x?}");
    }
    for bytes in [
        vec![0xf9, 0x7e, 0x01],
        vec![0xf9, 0xfe, 0x00],
        single(f32::NAN),
        double(f64::NAN),
    ] {
        assert_eq!(value(&bytes), Err(Rule::WrongNan), "{bytes:x?}");
    }
}

#[test]
fn every_half_is_its_own_shortest_form() {
    for bits in 0..=u16::MAX {
        let exponent = i32::from(bits >> 10 & 0x1f);
        let fraction = f64::from(bits & 0x3ff);
        let number = match exponent {
            0 => fraction * 2_f64.powi(-24),
            31 => continue,
            _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
        };
        assert!(fits_half(number), "{bits:x}");
        // Half way to the next one there is none.
        let between = if exponent == 0 {
            number + 2_f64.powi(-25)
        } else {
            number + 2_f64.powi(exponent - 26)
        };
        assert!(!fits_half(between), "{bits:x}");
    }
}

#[test]
fn what_comes_later_or_is_no_cbor_is_refused() {
    for bytes in [&[0x5f, 0xff][..], &[0x7f, 0xff], &[0x9f, 0xff], &[0xbf, 0xff], &[0xff]] {
        assert_eq!(value(bytes), Err(Rule::Indefinite), "{bytes:x?}");
    }
    for bytes in [&[0x1c][..], &[0x3e], &[0x1f], &[0xdf], &[0xfc], &[0xf8, 0], &[0xf8, 31]] {
        assert_eq!(value(bytes), Err(Rule::NotCbor), "{bytes:x?}");
    }
    assert!(value(&[0xf8, 32]).is_ok());
}

#[test]
fn maps_are_sorted_by_the_bytes_of_their_keys() {
    // 256, then -1, then texts: not by length.
    assert!(value(&[0xa3, 0x19, 1, 0, 0, 0x20, 0, 0x61, 0x61, 0]).is_ok());
    assert_eq!(value(&[0xa2, 0x20, 0, 0x19, 1, 0, 0]), Err(Rule::UnsortedKey));
    assert_eq!(value(&[0xa2, 0x20, 0, 0x20, 0]), Err(Rule::DuplicateKey));
    assert!(matches!(value(&[0xa1, 0x80, 0]), Err(Rule::WrongKind { .. })));
    assert_eq!(
        value(&[0xa1, 0x1b, 0, 0x20, 0, 0, 0, 0, 0, 0, 0]),
        Err(Rule::KeyRange),
        "2^53"
    );
    assert_eq!(
        value(&[0xa1, 0x3b, 0, 0x1f, 255, 255, 255, 255, 255, 255, 0]),
        Err(Rule::KeyRange),
        "-2^53"
    );
    assert!(value(&[0xa1, 0x3b, 0, 0x1f, 255, 255, 255, 255, 255, 254, 0]).is_ok());
}

#[test]
fn bigints_are_longer_than_integers() {
    let bigint = |bytes: &[u8]| [&[0xc3, 0x40 | bytes.len() as u8][..], bytes].concat();
    assert!(value(&bigint(&[1; 9])).is_ok());
    assert_eq!(value(&bigint(&[255; 8])), Err(Rule::BigintFits));
    assert_eq!(value(&bigint(&[0, 1, 1, 1, 1, 1, 1, 1, 1, 1])), Err(Rule::BigintFits));
    assert!(matches!(value(&[0xc2, 0x00]), Err(Rule::WrongKind { .. })));
}

#[test]
fn lengths_that_lie_end_where_the_bytes_do() {
    let largest = [255; 8];
    for first in [0x5b, 0x7b, 0x9b, 0xbb] {
        let bytes = [&[first][..], &largest].concat();
        assert!(matches!(value(&bytes), Err(Rule::Truncated { .. })), "{first:x}");
    }
    assert_eq!(value(&[0x59, 1, 0, 0]), Err(Rule::Truncated { missing: 255 }));
    assert_eq!(value(&[]), Err(Rule::Truncated { missing: 1 }));
    assert_eq!(value(&[0, 0]), Err(Rule::TrailingBytes { count: 1 }));
}

#[test]
fn a_value_is_at_most_three_levels_deep() {
    assert!(value(&[0x81, 0x81, 0x81, 0x60]).is_ok());
    assert_eq!(value(&[0x81, 0x81, 0x81, 0x80]), Err(Rule::TooDeep { max: 4 }));
    assert_eq!(
        value(&[0x81, 0xc1, 0xa1, 0x00, 0xc1, 0x00]),
        Err(Rule::TooDeep { max: 4 })
    );
    assert_eq!(value(&[0x81; 100_000]), Err(Rule::TooDeep { max: 4 }));
}

proptest! {
    #[test]
    fn any_bytes_are_one_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        match CborValue::parse(&bytes) {
            Ok(value) => prop_assert_eq!(value.as_cbor(), &bytes[..]),
            Err(error) => prop_assert!(error.offset <= bytes.len()),
        }
    }

    #[test]
    fn doubles_are_read_exactly_if_no_single_holds_them(bits in any::<u64>()) {
        let number = f64::from_bits(bits);
        prop_assume!(!number.is_nan());
        let bytes = [&[0xfb][..], &bits.to_be_bytes()].concat();
        let fits = f64::from(number as f32).to_bits() == bits;
        prop_assert_eq!(value(&bytes).is_ok(), !fits);
    }
}
