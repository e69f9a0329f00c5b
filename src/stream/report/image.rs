//! Weights as pictures: PNG with an alpha ramp of one colour, so that one picture serves light and dark pages, and base64.

/// The colour of attention, as in `figure.css`.
const COLOUR: [u8; 3] = [0x2a, 0x7a, 0xbd];

/// How opaque a weight from 0 to 1 is drawn: its root, so that weights of a few hundredths are seen.
pub fn opacity(weight: f64) -> f64 {
    weight.clamp(0.0, 1.0).sqrt()
}

/// Rows of bytes, each a 255th, as a PNG whose pixels have the opacity of their weights.
pub fn png(weights: &[u8], columns: usize) -> Vec<u8> {
    let rows = weights.len() / columns.max(1);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = [columns as u32, rows as u32].map(u32::to_be_bytes).concat();
    // 8 bits, a palette; deflate, no filter method, not interlaced
    header.extend([8, 3, 0, 0, 0]);
    chunk(&mut file, b"IHDR", &header);
    chunk(&mut file, b"PLTE", &COLOUR.repeat(256));
    let alpha: Vec<u8> = (0..=255).map(|weight| (255.0 * opacity(f64::from(weight) / 255.0)).round() as u8).collect();
    chunk(&mut file, b"tRNS", &alpha);
    // each row begins with its filter: none
    let lines: Vec<u8> = weights.chunks_exact(columns.max(1)).flat_map(|row| [&[0], row].concat()).collect();
    chunk(&mut file, b"IDAT", &zlib(&lines));
    chunk(&mut file, b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    let body = [kind, data].concat();
    file.extend(&body);
    file.extend(crc(&body).to_be_bytes());
}

/// CRC-32 as PNG has it.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// A zlib stream of one block of the fixed Huffman code: runs of a byte are matches, everything else is literal.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut out = Bits { bytes: vec![0x78, 0x01], filled: 0 };
    out.put(0b011, 3);
    let mut at = 0;
    while at < bytes.len() {
        out.literal(u32::from(bytes[at]));
        let run = bytes[at + 1..].iter().take(258).take_while(|&&next| next == bytes[at]).count();
        at += 1;
        if run >= 3 {
            out.again(run as u32);
            at += run;
        }
    }
    out.literal(256);
    let (mut a, mut b) = (1u32, 0u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    out.bytes.extend((b << 16 | a).to_be_bytes());
    out.bytes
}

/// Bits, from the lowest of each byte up.
struct Bits {
    bytes: Vec<u8>,
    /// Of the last byte; 0 where it is full.
    filled: u32,
}

impl Bits {
    fn put(&mut self, value: u32, bits: u32) {
        for i in 0..bits {
            if self.filled == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> i & 1) as u8) << self.filled;
            }
            self.filled = (self.filled + 1) % 8;
        }
    }

    /// The byte before, 3 to 258 times more: a match at distance 1.
    fn again(&mut self, length: u32) {
        let (over, extra) = (length - 3, (length - 3).checked_ilog2().unwrap_or(0).saturating_sub(2));
        match length {
            258 => self.literal(285),
            _ => {
                self.literal(257 + 4 * extra + (over >> extra));
                self.put(over, extra);
            }
        }
        self.put(0, 5);
    }

    /// A symbol of the fixed code, whose bits come from the highest down.
    fn literal(&mut self, symbol: u32) {
        let (code, bits) = match symbol {
            0..144 => (0x30 + symbol, 8),
            144..256 => (0x190 + symbol - 144, 9),
            256..280 => (symbol - 256, 7),
            _ => (0xc0 + symbol - 280, 8),
        };
        (0..bits).rev().for_each(|bit| self.put(code >> bit, 1));
    }
}

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().enumerate().fold(0, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length() {
        let all = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(all, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn checksum_of_an_empty_end() {
        // the last twelve bytes of every PNG
        let end = [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82];
        assert!(png(&[0, 255], 2).ends_with(&end));
    }
}
