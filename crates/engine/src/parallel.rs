//! One list of things to do, worked off by several threads, each with tools of its own.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

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

/// Does `work` with each of `items` and with each that comes of one, on several threads; returns when nothing is left.
///
/// What came of an item goes before the items that were there from the beginning, so at most as many of those as there are
/// threads are half done. The first failure or the user ends all threads after the item that each of them is at.
pub(crate) fn work_off<T: Send, W>(
    threads: usize,
    items: Vec<T>,
    cancel: &Cancel,
    tools: impl Fn() -> Result<W> + Sync,
    work: impl Fn(&mut W, T) -> Result<Vec<T>> + Sync,
) -> Result<()> {
    let list =
        List { state: Mutex::new(ListState { items: items.into(), busy: 0, is_over: false }), changed: Condvar::new() };
    let run = || -> Result<()> {
        let mut own = None;
        while let Some((item, mut busy)) = list.take() {
            let more = (|| {
                cancel.check()?;
                let own = match &mut own {
                    Some(own) => own,
                    none => none.insert(tools()?),
                };
                work(own, item)
            })();
            busy.more = Some(more?);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let results =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.collect::<Vec<Result<()>>>().into_iter().collect()
    })
}

/// What is left to do, and how many are at work, of which more may come.
struct List<T> {
    state: Mutex<ListState<T>>,
    changed: Condvar,
}

struct ListState<T> {
    items: VecDeque<T>,
    busy: usize,
    /// Somebody has failed.
    is_over: bool,
}

/// Is at work until it is dropped.
struct Busy<'a, T> {
    list: &'a List<T>,
    /// What came of it; none: it failed, or panicked.
    more: Option<Vec<T>>,
}

impl<T> List<T> {
    /// Takes the next item; waits while none is left and others are at work. None: all is done, or somebody has failed.
    fn take(&self) -> Option<(T, Busy<'_, T>)> {
        let mut state = self.lock();
        while !state.is_over {
            if let Some(item) = state.items.pop_front() {
                state.busy += 1;
                return Some((item, Busy { list: self, more: None }));
            }
            if state.busy == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, ListState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Busy<'_, T> {
    fn drop(&mut self) {
        let mut state = self.list.lock();
        state.busy -= 1;
        match self.more.take() {
            Some(more) => more.into_iter().rev().for_each(|item| state.items.push_front(item)),
            None => state.is_over = true,
        }
        self.list.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use backy_core::{Error, ErrorKind};

    use super::*;

    #[test]
    fn all_items_and_all_that_come_of_them_are_done_once() {
        for threads in [1, 2, 5] {
            let done: Mutex<Vec<u32>> = Mutex::default();
            let work = |(): &mut (), item: u32| {
                done.lock().unwrap_or_else(PoisonError::into_inner).push(item);
                Ok(if item < 100 { vec![2 * item + 100, 2 * item + 101] } else { Vec::new() })
            };
            work_off(threads, (0..100).collect(), &Cancel::default(), || Ok(()), work).unwrap();
            let mut done = done.into_inner().unwrap();
            done.sort_unstable();
            assert_eq!(done, (0..300).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn the_first_failure_ends_it_and_is_returned() {
        for threads in [1, 3] {
            let done = AtomicUsize::new(0);
            let work = |(): &mut (), item: u32| {
                done.fetch_add(1, Ordering::Relaxed);
                if item == 3 { Err(Error::new(ErrorKind::Io, "three")) } else { Ok(vec![item + 1]) }
            };
            let error = work_off(threads, vec![0], &Cancel::default(), || Ok(()), work).unwrap_err();
            assert_eq!((error.kind(), done.into_inner()), (ErrorKind::Io, 4));
        }
    }

    #[test]
    fn after_a_failure_nobody_takes_what_is_left() {
        let list = List {
            state: Mutex::new(ListState { items: [1, 2, 3].into(), busy: 0, is_over: false }),
            changed: Condvar::new(),
        };
        let (_, failed) = list.take().unwrap();
        let (_, mut other) = list.take().unwrap();
        drop(failed);
        other.more = Some(vec![4]);
        drop(other);
        assert!(list.take().is_none());
    }

    #[test]
    fn what_is_made_of_items_is_in_their_order() {
        for threads in [1, 4] {
            let items: Vec<usize> = (0..50).collect();
            assert_eq!(map(threads, &items, |item| Ok(item * 2)).unwrap(), (0..100).step_by(2).collect::<Vec<usize>>());
        }
        map(4, &[1, 2, 3], |item| if *item == 2 { Err(Error::damaged("two")) } else { Ok(()) }).unwrap_err();
    }
}
