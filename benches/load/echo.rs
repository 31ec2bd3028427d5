//! The yardstick of latency: how late two threads are that do nothing but exchange a byte.
//!
//! A thread sleeps until it is due, sends a byte over loopback, and another sends it back: what any
//! client and any server need of the machine before they have done anything. What that takes beside
//! a store is the kernel's: how long it keeps the processors to itself, and whose turn it is.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use crate::results::Latency;

/// Exchanges so many bytes a second, for a time; latency is from when each was due.
pub fn measure(rate: f64, seconds: f64) -> anyhow::Result<Latency> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let answering = std::thread::spawn(move || {
        let mut byte = [0];
        while far.read_exact(&mut byte).and_then(|()| far.write_all(&byte)).is_ok() {}
    });
    let begun = Instant::now();
    let mut times = Vec::new();
    for number in 0..(rate * seconds) as u64 {
        let due = begun + Duration::from_secs_f64(number as f64 / rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        near.write_all(&[0])?;
        near.read_exact(&mut [0])?;
        times.push(due.elapsed());
    }
    drop(near);
    answering.join().map_err(|_| anyhow::anyhow!("the echo ended"))?;
    Ok(Latency::of(times.into_iter()))
}
