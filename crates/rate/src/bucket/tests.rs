use super::*;

fn rate(per_second: u64) -> Rate {
    Rate::new(NonZeroU64::new(per_second).unwrap())
}

/// A generator of numbers that is the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_bucket_is_full_at_first_and_then_earns_its_rate() {
    let start = Instant::now();
    let mut bucket = Bucket::new(rate(1000).size(5), start);
    assert_eq!(bucket.take(5, start), Ok(()));
    assert_eq!(bucket.take(1, start), Err(MS));
    assert_eq!(bucket.take(3, start + MS), Err(2 * MS));
    assert_eq!(bucket.take(3, start + 3 * MS), Ok(()));
    assert_eq!(bucket.take(1, start + 3 * MS), Err(MS));
}

#[test]
fn no_more_is_kept_than_the_size() {
    let start = Instant::now();
    let mut bucket = Bucket::new(rate(1000).size(5), start);
    let later = start + Duration::from_secs(3600);
    assert_eq!(bucket.take(5, later), Ok(()));
    assert_eq!(bucket.take(1, later), Err(MS));
}

#[test]
fn the_burst_is_there_once() {
    let start = Instant::now();
    let mut bucket = Bucket::new(rate(1000).size(5).burst(7), start);
    assert_eq!(bucket.take(12, start), Ok(()));
    assert_eq!(bucket.take(1, start), Err(MS));
    let later = start + Duration::from_secs(3600);
    assert_eq!(bucket.take(5, later), Ok(()));
    assert_eq!(bucket.take(1, later), Err(MS));
}

#[test]
fn what_never_fits_goes_through_when_full_and_is_paid_for_afterwards() {
    let start = Instant::now();
    let mut bucket = Bucket::new(rate(1000).size(5), start);
    bucket.take(1, start).unwrap();
    assert_eq!(bucket.take(100, start), Err(MS));
    assert_eq!(bucket.take(100, start + MS), Ok(()));
    assert_eq!(bucket.take(1, start + MS), Err(96 * MS));
    assert_eq!(bucket.take(1, start + 97 * MS), Ok(()));
}

#[test]
fn a_bucket_of_size_0_spaces_requests_evenly() {
    let start = Instant::now();
    let mut bucket = Bucket::new(rate(1000).size(0), start);
    assert_eq!(bucket.take(2, start), Ok(()));
    assert_eq!(bucket.take(1, start), Err(2 * MS));
    assert_eq!(bucket.take(1, start + 2 * MS), Ok(()));
}

#[test]
fn nothing_costs_nothing_even_in_debt() {
    let start = Instant::now();
    let mut bucket = Bucket::new(rate(1).size(1), start);
    bucket.take(u64::MAX, start).unwrap();
    assert_eq!(bucket.take(0, start), Ok(()));
}

#[test]
fn tokens_given_back_can_be_taken_again_and_no_more() {
    let start = Instant::now();
    let mut bucket = Bucket::new(rate(1000).size(5).burst(5), start);
    bucket.take(8, start).unwrap();
    bucket.give_back(8);
    assert_eq!(bucket.take(10, start), Ok(()));
    bucket.give_back(4);
    assert_eq!(bucket.take(5, start), Err(MS));
    assert_eq!(bucket.take(4, start), Ok(()));
}

#[test]
fn giving_back_too_much_makes_no_more_than_a_new_bucket() {
    let start = Instant::now();
    let mut bucket = Bucket::new(rate(1000).size(5).burst(5), start);
    bucket.give_back(u64::MAX);
    assert_eq!(bucket.take(10, start), Ok(()));
    assert_eq!(bucket.take(1, start), Err(MS));
}

#[test]
fn a_new_rate_keeps_what_was_earned_within_the_new_size() {
    let start = Instant::now();
    let mut bucket = Bucket::new(rate(1000).size(10), start);
    bucket.take(10, start).unwrap();
    // Eight are earned at the old rate; more than four are not kept; then one in 100 ms.
    bucket.set(rate(10).size(4), start + 8 * MS);
    assert_eq!(bucket.take(4, start + 8 * MS), Ok(()));
    assert_eq!(bucket.take(1, start + 8 * MS), Err(100 * MS));
    // A larger bucket does not come filled.
    bucket.set(rate(1000).size(1000), start + 8 * MS);
    assert_eq!(bucket.take(1, start + 8 * MS), Err(MS));
}

#[test]
fn a_new_rate_does_not_forgive_a_debt() {
    let start = Instant::now();
    let mut bucket = Bucket::new(rate(1).size(1), start);
    bucket.take(101, start).unwrap();
    bucket.set(rate(1000).size(1), start);
    assert_eq!(bucket.take(1, start), Err(101 * MS));
}

#[test]
fn a_new_burst_is_a_new_one_and_the_same_is_not() {
    let start = Instant::now();
    let mut bucket = Bucket::new(rate(1000).size(1).burst(3), start);
    bucket.take(4, start).unwrap();
    bucket.set(rate(1000).size(1).burst(3), start);
    assert_eq!(bucket.take(1, start), Err(MS));
    bucket.set(rate(1000).size(1).burst(2), start);
    assert_eq!(bucket.take(2, start), Ok(()));
    assert_eq!(bucket.take(1, start), Err(MS));
}

#[test]
fn time_that_runs_backwards_stands_still() {
    let late = Instant::now() + 1000 * MS;
    let mut bucket = Bucket::new(rate(1000).size(5), late);
    bucket.take(5, late).unwrap();
    assert_eq!(bucket.take(1, late - 100 * MS), Err(MS));
    assert_eq!(bucket.take(2, late + MS), Err(MS));
}

#[test]
fn nothing_is_lost_to_rounding_in_many_small_steps() {
    // Three tokens a second, looked at every 7 ns: none is whole in any step.
    let start = Instant::now();
    let mut bucket = Bucket::new(rate(3).size(1), start);
    bucket.take(1, start).unwrap();
    let third = Duration::from_nanos(333_333_334); // rounded up
    let mut now = start;
    while now < start + third - Duration::from_nanos(7) {
        now += Duration::from_nanos(7 * 1000);
        assert!(bucket.take(1, now.min(start + third - Duration::from_nanos(1))).is_err());
    }
    assert_eq!(bucket.take(1, start + third), Ok(()));
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let start = Instant::now();
    let max = rate(u64::MAX).burst(u64::MAX);
    let mut bucket = Bucket::new(max, start);
    assert_eq!(bucket.take(u64::MAX, start), Ok(()));
    assert_eq!(bucket.take(u64::MAX, start), Ok(()));
    assert_eq!(bucket.take(u64::MAX, start), Err(Duration::from_secs(1)));
    let far = start + Duration::from_secs(1 << 40);
    assert_eq!(bucket.take(u64::MAX, far), Ok(()));

    let mut slow = Bucket::new(rate(1).size(u64::MAX), start);
    slow.take(u64::MAX, start).unwrap();
    assert_eq!(slow.take(u64::MAX, start), Err(Duration::from_secs(u64::MAX)));
    slow.give_back(1);
    slow.remove(u64::MAX); // debt on top
    assert_eq!(slow.take(u64::MAX, start), Err(Duration::MAX));
}

/// Whatever is asked and when: no window gets more than it may, and waiting as told is enough.
#[test]
fn no_window_gets_more_than_size_and_rate_allow() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..200 {
        let (per_second, size) = (1 + numbers.below(1 << 20), numbers.below(1 << 16));
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(per_second).size(size), start);
        let mut now = start;
        let mut taken = Vec::new();
        for _ in 0..100 {
            now += Duration::from_nanos(numbers.below(50_000_000));
            let count = 1 + numbers.below(size.max(1));
            if let Err(wait) = bucket.take(count, now) {
                assert!(bucket.take(count, now + wait - Duration::from_nanos(1)).is_err());
                now += wait;
                assert_eq!(bucket.take(count, now), Ok(()));
            }
            taken.push((now, u128::from(count)));
        }
        for (first, (from, _)) in taken.iter().enumerate() {
            let mut sum = 0;
            for (to, count) in &taken[first..] {
                sum += count;
                let earned = u128::from(per_second) * (*to - *from).as_nanos();
                let limit = u128::from(size.max(1)) * 1_000_000_000 + earned;
                assert!(sum * 1_000_000_000 <= limit, "{sum} of {size} and {per_second}/s");
            }
        }
    }
}

/// A queue that is never empty gets all of the rate.
#[test]
fn a_busy_queue_gets_its_rate_to_the_token() {
    let start = Instant::now();
    let mut bucket = Bucket::new(rate(12_345).size(10), start);
    let (mut now, mut taken) = (start, 0_u64);
    while now < start + Duration::from_secs(10) {
        match bucket.take(7, now) {
            Ok(()) => taken += 7,
            Err(wait) => now += wait,
        }
    }
    let earned = 123_450 + 10;
    assert!((earned - 7..=earned).contains(&taken), "{taken} taken, {earned} earned");
}
