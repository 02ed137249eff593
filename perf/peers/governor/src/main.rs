// SPDX-License-Identifier: Apache-2.0
//! What a decision of governor costs: direct and keyed, in slices that take turns, as
//! perf/bench.c does it.  Prints JSON.

use governor::clock::{Clock, MonotonicClock, QuantaClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::hint::black_box;
use std::mem::size_of;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

type Key = [u8; 16];
type Middleware<C> = NoOpMiddleware<<C as Clock>::Instant>;
type Direct<C> = RateLimiter<NotKeyed, InMemoryState, C, Middleware<C>>;
type Keyed<C> = RateLimiter<Key, DashMapStateStore<Key>, C, Middleware<C>>;

const OPERATIONS: u32 = 3200;

/// A token a nanosecond: nobody asks as fast, so every call is allowed.
fn quota() -> Quota {
    Quota::per_second(NonZeroU32::new(1_000_000_000).unwrap())
}

fn key(number: u64) -> Key {
    let mut key = *b"________weirkey_";
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d049bb133111eb);
        ((u128::from(x ^ (x >> 31)) * u128::from(n)) >> 64) as u64
    }
}

/// This thread's processor time in ns, without what others had of the processor.
fn own_time() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to `now` alone.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// This thread on one processor, if there is that one.
fn pin(processor: usize) {
    // SAFETY: the set is initialised, and as large as it is said to be.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

fn direct<C: Clock>(limiter: &Direct<C>) -> f64 {
    let begin = own_time();
    for _ in 0..OPERATIONS {
        black_box(limiter.check().is_ok());
    }
    (own_time() - begin) / f64::from(OPERATIONS)
}

fn keyed<C: Clock>(limiter: &Keyed<C>, random: &mut Random, keys: u64) -> f64 {
    let begin = own_time();
    for _ in 0..OPERATIONS {
        let key = key(if keys == 1 { 0 } else { random.below(keys) });
        black_box(limiter.check_key(&key).is_ok());
    }
    (own_time() - begin) / f64::from(OPERATIONS)
}

/// Two threads side by side; the time of one call of one thread.
fn keyed_twice<C: Clock>(limiter: &Keyed<C>, keys: u64, seed: u64) -> f64
where
    Keyed<C>: Sync,
{
    let arrived = AtomicU32::new(0);
    let run = |seed, processor| {
        let mut random = Random(seed);
        pin(processor);
        // Spinning: a slice is shorter than waking somebody up.
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < 2 {
            std::hint::spin_loop();
        }
        keyed(limiter, &mut random, keys)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| run(seed, 1));
        let own = run(seed + 1, 0);
        (own + other.join().unwrap()) / 2.0
    })
}

fn report(name: &str, times: &mut [f64], separator: &str) {
    times.sort_by(f64::total_cmp);
    print!(
        "{separator}\n  \"{name}\": {{\"min_ns\": {:.2}, \"median_ns\": {:.2}}}",
        times[0],
        times[times.len() / 2]
    );
}

fn main() {
    let argument = |index: usize, otherwise: u64| {
        std::env::args().nth(index).map_or(otherwise, |text| text.parse().expect("a number"))
    };
    let (keys, rounds) = (argument(1, 1_000_000), argument(2, 101));
    let direct_quanta: Direct<QuantaClock> =
        RateLimiter::direct_with_clock(quota(), QuantaClock::default());
    let direct_monotonic: Direct<MonotonicClock> =
        RateLimiter::direct_with_clock(quota(), MonotonicClock);
    let quanta: Keyed<QuantaClock> =
        RateLimiter::dashmap_with_clock(quota(), QuantaClock::default());
    let monotonic: Keyed<MonotonicClock> = RateLimiter::dashmap_with_clock(quota(), MonotonicClock);
    let mut random = Random(1);

    for number in 0..keys {
        let _ = quanta.check_key(&key(number));
        let _ = monotonic.check_key(&key(number));
    }
    let mut kernels: Vec<(&str, Box<dyn FnMut(u64) -> f64>)> = vec![
        ("direct_tsc", Box::new(|_| direct(&direct_quanta))),
        ("direct_monotonic", Box::new(|_| direct(&direct_monotonic))),
        ("hot_tsc", Box::new(|_| keyed(&quanta, &mut Random(0), 1))),
        ("hot_monotonic", Box::new(|_| keyed(&monotonic, &mut Random(0), 1))),
        ("keys_tsc", Box::new(|round| keyed(&quanta, &mut Random(round << 32), keys))),
        ("keys_monotonic", Box::new(|round| keyed(&monotonic, &mut Random(round << 32), keys))),
        ("two_hot_tsc", Box::new(|_| keyed_twice(&quanta, 1, 0))),
        ("two_keys_tsc", Box::new(|_| keyed_twice(&quanta, keys, random.below(u64::MAX)))),
        ("two_hot_monotonic", Box::new(|_| keyed_twice(&monotonic, 1, 0))),
        ("two_keys_monotonic", Box::new(|round| keyed_twice(&monotonic, keys, round << 32))),
    ];
    let mut times = vec![Vec::new(); kernels.len()];
    for round in 0..rounds {
        for (kernel, times) in kernels.iter_mut().zip(&mut times) {
            times.push(kernel.1(round + 1));
        }
    }
    print!("{{\"keys\": {keys}, \"rounds\": {rounds}, \"kernels\": {{");
    for (index, (kernel, times)) in kernels.iter().zip(&mut times).enumerate() {
        report(kernel.0, times, if index == 0 { "" } else { "," });
    }
    println!("\n}}}}");
}
