//! The frame decoder: bytes in, messages out, strict in everything RFC 6455 asks of a receiver.

use bytes::{Buf, BytesMut};

use super::{
    CONTROL_BYTES_MAX, CloseReason, FrameError, Message, Opcode, apply_mask, utf8::Utf8Check,
};
use crate::codes::CloseCode;

/// Which end sends the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masking {
    /// Frames of a client: every one has to be masked.
    Required,
    /// Frames of a server: none may be masked.
    Forbidden,
}

/// What a decoder accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// The largest message, all fragments together, in bytes.
    pub message_bytes: u64,
    /// Which end sends the frames.
    pub masking: Masking,
}

impl FrameLimits {
    /// The limits of a server that reads messages of up to `message_bytes`.
    pub const fn server(message_bytes: u64) -> Self {
        Self { message_bytes, masking: Masking::Required }
    }

    /// The limits of a client that reads messages of up to `message_bytes`.
    pub const fn client(message_bytes: u64) -> Self {
        Self { message_bytes, masking: Masking::Forbidden }
    }
}

/// Decodes the frames of one peer.
#[derive(Debug)]
pub struct FrameDecoder {
    limits: FrameLimits,
    frame: Option<Frame>,
    /// The fragmented message under way; boxed, because few are and none stays.
    partial: Option<Box<Partial>>,
}

/// The header of a data frame whose payload is arriving.
#[derive(Debug, Clone, Copy)]
struct Frame {
    fin: bool,
    opcode: Opcode,
    len: usize,
    key: Option<[u8; 4]>,
    /// Text that was checked while the frame was still arriving.
    checked: usize,
    utf8: Utf8Check,
}

#[derive(Debug)]
struct Partial {
    text: bool,
    data: BytesMut,
    utf8: Utf8Check,
}

impl FrameDecoder {
    /// A decoder at the beginning of a connection.
    pub const fn new(limits: FrameLimits) -> Self {
        Self { limits, frame: None, partial: None }
    }

    /// Changes the largest message, all fragments together, in bytes. Counts for frames whose
    /// headers are read from now on.
    pub const fn limit(&mut self, message_bytes: u64) {
        self.limits.message_bytes = message_bytes;
    }

    /// Takes the next message out of `buf`, or `None` when it needs more bytes. Call it until
    /// then: one read may bring many messages.
    ///
    /// The message shares memory with `buf`; nothing is copied unless it was fragmented.
    ///
    /// # Errors
    ///
    /// [`FrameError`] when the peer broke RFC 6455 or a limit; the connection has to end with
    /// [`FrameError::close_code`], and the decoder must not be used again.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Message>, FrameError> {
        loop {
            if self.frame.is_none() {
                self.frame = self.header(buf)?;
            }
            let Some(frame) = &mut self.frame else { return Ok(None) };
            if buf.len() < frame.len {
                return self.check_early(buf).map(|()| None);
            }
            let frame = *frame;
            self.frame = None;
            let mut payload = buf.split_to(frame.len);
            if let Some(key) = frame.key {
                apply_mask(&mut payload[frame.checked..], key, frame.checked);
            }
            if let Some(message) = self.payload(frame, payload)? {
                return Ok(Some(message));
            }
        }
    }

    /// Whether the decoder is between two messages.
    pub fn is_idle(&self) -> bool {
        self.frame.is_none() && self.partial.is_none()
    }

    /// Reads a header, if all of it is there.
    fn header(&self, buf: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let [first, second] = match buf.first_chunk() {
            Some(start) => *start,
            None => return Ok(None),
        };
        if first & 0x70 != 0 {
            return Err(FrameError::ReservedBits);
        }
        let fin = first & 0x80 != 0;
        let opcode = Opcode::from_bits(first & 0x0F).ok_or(FrameError::BadOpcode(first & 0x0F))?;
        let masked = second & 0x80 != 0;
        match (self.limits.masking, masked) {
            (Masking::Required, false) => return Err(FrameError::Unmasked),
            (Masking::Forbidden, true) => return Err(FrameError::Masked),
            _ => {}
        }
        let short = second & 0x7F;
        if opcode.is_control() {
            if !fin {
                return Err(FrameError::FragmentedControl);
            }
            if usize::from(short) > CONTROL_BYTES_MAX {
                return Err(FrameError::OversizedControl);
            }
        } else {
            match (opcode, &self.partial) {
                (Opcode::Continuation, None) => return Err(FrameError::UnexpectedContinuation),
                (Opcode::Text | Opcode::Binary, Some(_)) => {
                    return Err(FrameError::ExpectedContinuation);
                }
                _ => {}
            }
        }
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(length) = buf.get(2..2 + extended) else { return Ok(None) };
        let len = length.iter().fold(0u64, |len, byte| len << 8 | u64::from(*byte));
        let (len, shortest) = match short {
            126 => (len, len > 125),
            127 => (len, len > 0xFFFF && len >> 63 == 0),
            _ => (u64::from(short), true),
        };
        if !shortest {
            return Err(FrameError::BadLength);
        }
        if !opcode.is_control() {
            let before = self.partial.as_ref().map_or(0, |partial| partial.data.len() as u64);
            let bytes = before.saturating_add(len);
            if bytes > self.limits.message_bytes {
                return Err(FrameError::TooBig { bytes, max: self.limits.message_bytes });
            }
        }
        let len = usize::try_from(len)
            .map_err(|_| FrameError::TooBig { bytes: len, max: self.limits.message_bytes })?;
        let key = if masked {
            let Some(key) = buf.get(2 + extended..).and_then(<[u8]>::first_chunk) else {
                return Ok(None);
            };
            Some(*key)
        } else {
            None
        };
        buf.advance(2 + extended + key.map_or(0, |_| 4));
        let utf8 = self.partial.as_ref().map(|partial| partial.utf8).unwrap_or_default();
        Ok(Some(Frame { fin, opcode, len, key, checked: 0, utf8 }))
    }

    /// Unmasks and checks the text that has arrived of an unfinished frame, so that a peer
    /// learns at once that its text is wrong, and the work is spread.
    fn check_early(&mut self, buf: &mut BytesMut) -> Result<(), FrameError> {
        let text = self.is_text();
        let Some(frame) = &mut self.frame else { return Ok(()) };
        if frame.opcode.is_control() || buf.len() == frame.checked {
            return Ok(());
        }
        let arrived = &mut buf[frame.checked..];
        if let Some(key) = frame.key {
            apply_mask(arrived, key, frame.checked);
        }
        if text && !frame.utf8.push(arrived) {
            return Err(FrameError::InvalidUtf8);
        }
        frame.checked = buf.len();
        Ok(())
    }

    /// Whether the data frame under way carries text.
    fn is_text(&self) -> bool {
        match (&self.frame, &self.partial) {
            (Some(Frame { opcode: Opcode::Text, .. }), _) => true,
            (Some(Frame { opcode: Opcode::Continuation, .. }), Some(partial)) => partial.text,
            _ => false,
        }
    }

    /// Takes a whole frame's unmasked payload.
    fn payload(&mut self, frame: Frame, payload: BytesMut) -> Result<Option<Message>, FrameError> {
        match frame.opcode {
            Opcode::Ping => return Ok(Some(Message::Ping(payload.freeze()))),
            Opcode::Pong => return Ok(Some(Message::Pong(payload.freeze()))),
            Opcode::Close => return close_reason(&payload).map(Message::Close).map(Some),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {}
        }
        let text = match &self.partial {
            Some(partial) => partial.text,
            None => frame.opcode == Opcode::Text,
        };
        let mut utf8 = frame.utf8;
        if text && !(utf8.push(&payload[frame.checked..]) && (!frame.fin || utf8.is_complete())) {
            return Err(FrameError::InvalidUtf8);
        }
        let data = match self.partial.take() {
            None if frame.fin => payload.freeze(),
            None => {
                self.partial = Some(Box::new(Partial { text, data: owned(&payload), utf8 }));
                return Ok(None);
            }
            Some(mut partial) => {
                partial.data.extend_from_slice(&payload);
                partial.utf8 = utf8;
                if !frame.fin {
                    self.partial = Some(partial);
                    return Ok(None);
                }
                partial.data.freeze()
            }
        };
        Ok(Some(if text { Message::Text(data) } else { Message::Binary(data) }))
    }
}

/// A copy that does not keep the read buffer alive.
fn owned(part: &[u8]) -> BytesMut {
    BytesMut::from(part)
}

fn close_reason(payload: &[u8]) -> Result<Option<CloseReason>, FrameError> {
    let Some((code, text)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(FrameError::BadClose) };
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    if !code.may_travel() {
        return Err(FrameError::BadClose);
    }
    let text = std::str::from_utf8(text).map_err(|_| FrameError::InvalidUtf8)?;
    Ok(Some(CloseReason { code, text: text.to_owned() }))
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
