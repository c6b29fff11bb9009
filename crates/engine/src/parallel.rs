//! One list of things to do, worked off by several threads, each with tools of its own.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use backy_core::Result;
use backy_core::cancel::Cancel;

/// Does `work` with each of `items`, in their order, on as many threads; returns when all threads have ended.
///
/// Each thread makes its tools once. The first failure, a `Break` or the user ends all threads after the item that each of
/// them is at.
pub(crate) fn for_each<T: Sync, W>(
    threads: usize,
    items: &[T],
    cancel: &Cancel,
    tools: impl Fn() -> Result<W> + Sync,
    work: impl Fn(&mut W, &T) -> Result<ControlFlow<()>> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let is_ending = AtomicBool::new(false);
    let run = || -> Result<()> {
        let mut tools = tools()?;
        while !is_ending.load(Ordering::Relaxed)
            && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let done = cancel.check().and_then(|()| work(&mut tools, item));
            if let Ok(ControlFlow::Continue(())) = done {
                continue;
            }
            is_ending.store(true, Ordering::Relaxed);
            return done.map(|_| ());
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(items.len())).map(|_| scope.spawn(run)).collect();
        let results =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.collect::<Vec<Result<()>>>().into_iter().collect()
    })
}

/// Returns what `work` makes of each of `items`, in their order; done on as many threads.
///
/// The first failure ends all threads after the item that each of them is at.
pub(crate) fn map<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    if threads <= 1 || items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let numbers: Vec<usize> = (0..items.len()).collect();
    let made: Mutex<Vec<Option<R>>> = Mutex::new(items.iter().map(|_| None).collect());
    for_each(
        threads,
        &numbers,
        &Cancel::default(),
        || Ok(()),
        |(), &number| {
            let result = work(&items[number])?;
            made.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(result);
            Ok(ControlFlow::Continue(()))
        },
    )?;
    Ok(made.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect())
}
