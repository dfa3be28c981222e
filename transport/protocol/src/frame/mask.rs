//! The masking of RFC 6455, section 5.3: XOR with four bytes, eight bytes at a time.

/// XORs `data` with `key`, which begins at its byte `offset % 4`; applying it twice undoes it.
pub fn apply_mask(data: &mut [u8], key: [u8; 4], offset: usize) {
    let mut rotated = key;
    rotated.rotate_left(offset % 4);
    let wide = u64::from_ne_bytes([
        rotated[0], rotated[1], rotated[2], rotated[3], rotated[0], rotated[1], rotated[2],
        rotated[3],
    ]);
    let (words, rest) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(rotated.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_in_pieces_equals_masking_byte_by_byte() {
        let key = [0x12, 0xA4, 0x00, 0xFF];
        for len in 0..40 {
            let plain: Vec<u8> = (0..len as u8).collect();
            let expected: Vec<u8> =
                plain.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            for cut in 0..=len {
                let mut data = plain.clone();
                let (head, tail) = data.split_at_mut(cut);
                apply_mask(head, key, 0);
                apply_mask(tail, key, cut);
                assert_eq!(data, expected, "{len} bytes cut at {cut}");
            }
        }
    }
}
