//! What a good store never does: damage, lose, swap and hide objects behind the back of who uses it.

use backy_core::Result;
use backy_core::names::ObjectName;

use super::FaultyStore;

impl FaultyStore {
    /// *Hostile*: inverts one bit of the byte at `offset_bytes` of an object.
    pub fn flip_bit(&self, name: &ObjectName, offset_bytes: usize) -> Result<()> {
        self.damage(name, |body| {
            if let Some(byte) = body.get_mut(offset_bytes) {
                *byte ^= 1;
            }
        })
    }

    /// *Hostile*: cuts an object to `length_bytes`.
    pub fn truncate(&self, name: &ObjectName, length_bytes: usize) -> Result<()> {
        self.damage(name, |body| body.truncate(length_bytes))
    }

    /// *Hostile*: changes the content of an object at will.
    pub fn damage(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut body = self.inner.get(name, u64::MAX)?;
        change(&mut body);
        self.inner.put(name, &body)
    }

    /// *Hostile*: gives each of two objects the content of the other.
    pub fn swap(&self, a: &ObjectName, b: &ObjectName) -> Result<()> {
        let (body_a, body_b) = (self.inner.get(a, u64::MAX)?, self.inner.get(b, u64::MAX)?);
        self.inner.put(a, &body_b)?;
        self.inner.put(b, &body_a)
    }

    /// *Hostile*: loses an object.
    pub fn lose(&self, name: &ObjectName) -> Result<()> {
        self.inner.delete(name)
    }

    /// *Hostile*: lists an object no more, although it can be read.
    pub fn hide(&self, name: &ObjectName) {
        self.lock().hidden.insert(name.clone());
    }

    /// Lists a hidden object again.
    pub fn unhide(&self, name: &ObjectName) {
        self.lock().hidden.remove(name);
    }

    /// *Hostile*: shows an object that is put from now on only after `listings` listings that do not show it.
    pub fn delay_listings(&self, listings: u64) {
        self.lock().list_delay = listings;
    }
}
