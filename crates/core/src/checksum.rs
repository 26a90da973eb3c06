//! CRC-32C, the checksum of iSCSI (RFC 3720) and of many file formats: checkpoints, event files.

/// Castagnoli's polynomial, with the bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[k][byte]` is what a byte does to the sum of the bytes behind it, `k` bytes later.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = (sum >> 1) ^ (POLYNOMIAL * (sum & 1));
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut later = 1;
    while later < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[later - 1][byte];
            tables[later][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        later += 1;
    }
    tables
}

/// The checksum of some bytes, one part after the other.
#[must_use]
pub fn crc32c<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    !parts.into_iter().fold(!0, append)
}

/// Eight bytes at a time (Kounavis and Berry, "Novel table lookup-based algorithms for
/// high-performance CRC generation", 2008).
fn append(sum: u32, bytes: &[u8]) -> u32 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let sum = chunks.iter().fold(sum, |sum, chunk| {
        let word = u64::from_le_bytes(*chunk) ^ u64::from(sum);
        let bytes = word.to_le_bytes();
        let later = |(i, &byte): (usize, &u8)| TABLES[7 - i][usize::from(byte)];
        bytes.iter().enumerate().map(later).fold(0, |a, b| a ^ b)
    });
    rest.iter().fold(sum, |sum, &byte| {
        (sum >> 8) ^ TABLES[0][usize::from(sum as u8 ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 3720, B.4, and the check value of the catalogue of CRCs.
    #[test]
    fn known_answers() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        let cases: [(&[u8], u32); 6] = [
            (b"", 0),
            (b"123456789", 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
        ];
        for (bytes, expected) in cases {
            assert_eq!(crc32c([bytes]), expected);
            for cut in 0..bytes.len() {
                assert_eq!(crc32c([&bytes[..cut], &bytes[cut..]]), expected);
            }
        }
    }
}
