//! Pictures and documents made from instances (PS3.18 §8.7.4, §10.4.1.1.3): what a browser can show.
//!
//! Pure and synchronous: attributes and native pixels in, bytes of an image or a text out. Absent:
//! decoding of stored frames ([`crate::codec`]), I/O, HTTP.
