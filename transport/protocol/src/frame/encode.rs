//! The frame encoder: headers, control frames, and masked frames for the client's side.

use bytes::{BufMut, Bytes, BytesMut};

use super::{CONTROL_BYTES_MAX, Opcode, apply_mask};
use crate::codes::CloseCode;

/// The longest header of an unmasked frame, in bytes.
pub const HEADER_BYTES_MAX: usize = 10;

/// How many bytes the header of an unmasked frame with `len` payload bytes has.
pub const fn text_header_bytes(len: usize) -> usize {
    match len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// Writes the header of an unmasked, unfragmented frame whose payload has `len` bytes.
pub fn encode_header(opcode: Opcode, len: usize, out: &mut BytesMut) {
    header(opcode, true, false, len, out);
}

fn header(opcode: Opcode, fin: bool, masked: bool, len: usize, out: &mut BytesMut) {
    out.put_u8(u8::from(fin) << 7 | opcode.bits());
    let mask = u8::from(masked) << 7;
    match len {
        0..=125 => out.put_u8(mask | len as u8),
        126..=0xFFFF => {
            out.put_u8(mask | 126);
            out.put_u16(len as u16);
        }
        _ => {
            out.put_u8(mask | 127);
            out.put_u64(len as u64);
        }
    }
}

/// A whole unmasked text frame.
pub fn text(payload: &[u8], out: &mut BytesMut) {
    out.reserve(HEADER_BYTES_MAX + payload.len());
    encode_header(Opcode::Text, payload.len(), out);
    out.put_slice(payload);
}

/// A whole unmasked Ping frame; a payload over 125 bytes is cut.
pub fn ping(payload: &[u8]) -> Bytes {
    control(Opcode::Ping, payload)
}

/// A whole unmasked Pong frame; a payload over 125 bytes is cut.
pub fn pong(payload: &[u8]) -> Bytes {
    control(Opcode::Pong, payload)
}

/// A whole unmasked Close frame. A code that may not travel is left out together with the
/// reason; a reason over 123 bytes is cut between two characters.
pub fn close(code: CloseCode, reason: &str) -> Bytes {
    control(Opcode::Close, &close_payload(code, reason))
}

/// The payload of a Close frame.
pub(crate) fn close_payload(code: CloseCode, reason: &str) -> Vec<u8> {
    if !code.may_travel() {
        return Vec::new();
    }
    let mut payload = code.0.to_be_bytes().to_vec();
    payload
        .extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)]);
    payload
}

fn control(opcode: Opcode, payload: &[u8]) -> Bytes {
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
    let mut out = BytesMut::with_capacity(2 + payload.len());
    encode_header(opcode, payload.len(), &mut out);
    out.put_slice(payload);
    out.freeze()
}

/// A whole masked frame, as clients send them.
pub fn encode_masked(opcode: Opcode, fin: bool, payload: &[u8], key: [u8; 4], out: &mut BytesMut) {
    header(opcode, fin, true, payload.len(), out);
    out.put_slice(&key);
    let start = out.len();
    out.put_slice(payload);
    apply_mask(&mut out[start..], key, 0);
}
