//! One function on many items, on all cores.

use std::thread;

/// `work` on every item, on all cores, in the items' order.
pub(super) fn parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len() / 2);
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    // Interleaved shares: neighbors (images of a batch, frequent categories) cost alike.
    let share = |first: usize| items.iter().skip(first).step_by(threads).map(&work).collect::<Vec<_>>();
    let mut shares = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|first| scope.spawn(move || share(first))).collect();
        let mut shares = vec![share(0).into_iter()];
        for other in others {
            let done = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            shares.push(done.into_iter());
        }
        shares
    });
    (0..items.len()).filter_map(|i| shares[i % threads].next()).collect()
}
