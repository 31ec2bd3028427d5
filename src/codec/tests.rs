//! What is offered is what works, for every transfer syntax that is known.

use super::*;

fn grey() -> Raster {
    let layout = Layout {
        rows: 9,
        columns: 10,
        samples: 1,
        bits_allocated: 8,
        bits_stored: 8,
        high_bit: 7,
        signed: false,
        float: false,
        planar: false,
        photometric: Photometric::Monochrome2,
    };
    Raster { layout, data: (0..90).map(|n: u8| n.wrapping_mul(n)).collect() }
}

#[test]
fn what_can_be_encoded_can_be_decoded() {
    for entry in TransferSyntax::known() {
        let syntax: Uid = entry.uid.parse().unwrap();
        let image = grey();
        if !encodes(&syntax) {
            let refused = encode(&syntax, &image, 90);
            assert!(matches!(refused, Err(CodecError::Unsupported(_))), "{}", entry.name);
            continue;
        }
        assert!(decodes(&syntax), "{}", entry.name);
        let encoded = encode(&syntax, &image, 90).unwrap();
        let decoded = decode(&syntax, &encoded.layout, &encoded.data).unwrap();
        assert_eq!(decoded.data.len(), image.data.len(), "{}", entry.name);
        if is_lossless(&syntax) {
            assert_eq!(decoded, image, "{}", entry.name);
        }
    }
}

#[test]
fn what_cannot_be_decoded_is_said_to_be_unsupported() {
    for entry in TransferSyntax::known() {
        let syntax: Uid = entry.uid.parse().unwrap();
        let outcome = decode(&syntax, &grey().layout, &[]);
        let unsupported = matches!(outcome, Err(CodecError::Unsupported(_)));
        assert_eq!(unsupported, !decodes(&syntax), "{}", entry.name);
        assert!(outcome.is_err(), "{}", entry.name);
    }
}
