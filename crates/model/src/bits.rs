//! A small set of small numbers: of slots, versions, leases, records or objects of a model.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub, SubAssign};

/// A set of numbers from 0 to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bits(u8);

impl Bits {
    /// No number.
    pub const NONE: Bits = Bits(0);

    /// Returns the set of `numbers`, each below 8.
    pub const fn of(numbers: &[u8]) -> Bits {
        let mut bits = 0;
        let mut index = 0;
        while index < numbers.len() {
            bits |= 1 << numbers[index];
            index += 1;
        }
        Bits(bits)
    }

    /// Returns the set of one number.
    pub const fn one(number: u8) -> Bits {
        Bits(1 << number)
    }

    /// Returns the set of all numbers below `end`, which is at most 8.
    pub const fn below(end: u8) -> Bits {
        if end >= 8 { Bits(u8::MAX) } else { Bits((1 << end) - 1) }
    }

    /// Tells whether `number` is in it.
    pub const fn has(self, number: u8) -> bool {
        self.0 & (1 << number) != 0
    }

    /// Tells whether all of `other` is in it.
    pub const fn covers(self, other: Bits) -> bool {
        other.0 & !self.0 == 0
    }

    /// Tells whether some of `other` is in it.
    pub const fn meets(self, other: Bits) -> bool {
        self.0 & other.0 != 0
    }

    /// Tells whether it has no number.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns how many numbers it has.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Returns the lowest number.
    pub fn first(self) -> Option<u8> {
        self.iter().next()
    }

    /// Returns the highest number.
    pub fn last(self) -> Option<u8> {
        self.iter().last()
    }

    /// Returns its numbers, the lowest first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..8).filter(move |number| self.has(*number))
    }

    /// Adds `number`.
    pub fn add(&mut self, number: u8) {
        self.0 |= 1 << number;
    }

    /// Takes `number` out.
    pub fn remove(&mut self, number: u8) {
        self.0 &= !(1 << number);
    }
}

impl FromIterator<u8> for Bits {
    fn from_iter<T: IntoIterator<Item = u8>>(numbers: T) -> Bits {
        numbers.into_iter().fold(Bits::NONE, |bits, number| bits | Bits::one(number))
    }
}

impl BitOr for Bits {
    type Output = Bits;
    fn bitor(self, other: Bits) -> Bits {
        Bits(self.0 | other.0)
    }
}

impl BitOrAssign for Bits {
    fn bitor_assign(&mut self, other: Bits) {
        self.0 |= other.0;
    }
}

impl BitAnd for Bits {
    type Output = Bits;
    fn bitand(self, other: Bits) -> Bits {
        Bits(self.0 & other.0)
    }
}

impl Sub for Bits {
    type Output = Bits;
    fn sub(self, other: Bits) -> Bits {
        Bits(self.0 & !other.0)
    }
}

impl SubAssign for Bits {
    fn sub_assign(&mut self, other: Bits) {
        self.0 &= !other.0;
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.iter().map(|number| number.to_string()).collect();
        write!(out, "{{{}}}", numbers.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_what_they_say() {
        let set = Bits::of(&[1, 3, 7]);
        assert_eq!(set.to_string(), "{1,3,7}");
        assert_eq!((set.len(), set.first(), set.last()), (3, Some(1), Some(7)));
        assert!(set.covers(Bits::one(3)) && !set.covers(Bits::of(&[3, 4])) && set.meets(Bits::of(&[3, 4])));
        assert_eq!(Bits::below(8) - set, Bits::of(&[0, 2, 4, 5, 6]));
        assert_eq!(Bits::below(0), Bits::NONE);
    }
}
