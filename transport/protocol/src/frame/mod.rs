//! WebSocket frames (RFC 6455): a strict decoder and an encoder, apart from any socket.
//!
//! The decoder takes bytes as they come and yields whole messages; an oversized frame is refused
//! by its header, before its payload is buffered. It holds no heap while it is between messages.

mod decode;
mod encode;
mod mask;
mod utf8;

use bytes::Bytes;

use crate::codes::CloseCode;

pub use decode::{FrameDecoder, FrameLimits, Masking};
pub use encode::{
    HEADER_BYTES_MAX, close, encode_header, encode_masked, ping, pong, text, text_header_bytes,
};
pub use mask::apply_mask;

/// The largest payload of a control frame, in bytes.
pub const CONTROL_BYTES_MAX: usize = 125;

/// What a frame is (RFC 6455, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// A further part of a fragmented message.
    Continuation,
    /// Text, or its first part.
    Text,
    /// Binary data, or its first part.
    Binary,
    /// A Close frame.
    Close,
    /// A Ping frame.
    Ping,
    /// A Pong frame.
    Pong,
}

impl Opcode {
    /// The four bits on the wire.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    /// The opcode with these four bits, if RFC 6455 defines one.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    /// Whether this is a control frame.
    pub const fn is_control(self) -> bool {
        self.bits() & 0x8 != 0
    }
}

/// What a Close frame said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    /// The code.
    pub code: CloseCode,
    /// The text after it, at most 123 bytes.
    pub text: String,
}

/// A complete message: fragments put together, masks removed, text checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text: the bytes are UTF-8.
    Text(Bytes),
    /// Binary data.
    Binary(Bytes),
    /// A Ping frame, to be answered with the same bytes.
    Ping(Bytes),
    /// A Pong frame.
    Pong(Bytes),
    /// A Close frame, with its reason if it had one.
    Close(Option<CloseReason>),
}

/// How a peer broke RFC 6455. Nothing after it can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A reserved bit is set, and no extension was agreed on.
    #[error("a reserved bit is set")]
    ReservedBits,
    /// The opcode is not one that RFC 6455 defines.
    #[error("the opcode {0:#x} is not defined")]
    BadOpcode(u8),
    /// A client's frame has no mask.
    #[error("the frame is not masked")]
    Unmasked,
    /// A server's frame has a mask.
    #[error("the frame is masked")]
    Masked,
    /// A control frame is fragmented.
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A control frame has more than 125 bytes.
    #[error("a control frame has more than {CONTROL_BYTES_MAX} bytes")]
    OversizedControl,
    /// A length is not written in the shortest way, or has its highest bit set.
    #[error("the length is not written in the shortest way")]
    BadLength,
    /// A continuation without a message to continue.
    #[error("there is no message to continue")]
    UnexpectedContinuation,
    /// A new message before the last one was complete.
    #[error("a new message began inside a fragmented one")]
    ExpectedContinuation,
    /// A Close frame has one byte, or a code that may not travel.
    #[error("the close frame is not well formed")]
    BadClose,
    /// Text, or a close reason, is not UTF-8.
    #[error("the text is not UTF-8")]
    InvalidUtf8,
    /// A message is larger than allowed.
    #[error("the message has at least {bytes} bytes; at most {max} are allowed")]
    TooBig {
        /// The size that was announced, in bytes.
        bytes: u64,
        /// The limit, in bytes.
        max: u64,
    },
}

impl FrameError {
    /// The code to close the connection with.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::InvalidUtf8 => CloseCode::INVALID_TEXT,
            Self::TooBig { .. } => CloseCode::TOO_BIG,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }
}
