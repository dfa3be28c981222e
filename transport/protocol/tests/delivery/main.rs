//! Reliable delivery, a scene a sentence of PROTOCOL.md: what is sent, settled, sent again, put
//! aside and remembered, and when.

mod acks;
mod attempts;
mod consumers;
mod groups;
mod hostile;
mod nacks;
mod scene;
mod world;
