//! How messages are written: one module an encoding.

pub mod json;
