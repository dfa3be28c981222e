//! Skeleton.
#![allow(dead_code, unused_imports)]
mod flights;
fn main() {}
